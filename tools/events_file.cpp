// SPDX-License-Identifier: BSD-3-Clause
#include "tools/events_file.hpp"

#include <array>
#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/base/trusted_file.hpp"

namespace mirror::tools {
namespace {

/// Closed when there is no such file.
Result<Fd> open_if_there(const std::string& path) {
    auto fd = open_to_show(path);
    return !fd && fd.error().kind == ErrorKind::not_found ? Result<Fd>(Fd()) : std::move(fd);
}

bool same_file(const struct stat& a, const struct stat& b) {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

Result<void> ignore_value(const Result<bool>& result) {
    if (!result) {
        return Failure(result.error());
    }
    return {};
}

void hand_out_lines(std::string& pending, const EventsFile::LineSink& sink) {
    std::size_t start = 0;
    for (std::size_t end = pending.find('\n'); end != std::string::npos;
         end = pending.find('\n', start)) {
        sink(std::string_view(pending).substr(start, end - start));
        start = end + 1;
    }
    pending.erase(0, start);
}

}  // namespace

Result<bool> EventsFile::open_current() {
    auto fd = open_if_there(path_);
    if (!fd) {
        return Failure(fd.error());
    }
    current_ = std::move(*fd);
    pending_.clear();
    return current_.is_open();
}

Result<void> EventsFile::drain(const Fd& fd, std::string& pending, const LineSink& sink) {
    std::array<char, std::size_t{64} * 1024> buffer{};
    while (true) {
        const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return fail_errno(errno, path_);
        }
        if (count == 0) {
            return {};
        }
        pending.append(buffer.data(), static_cast<std::size_t>(count));
        hand_out_lines(pending, sink);
    }
}

Result<void> EventsFile::read_rotated(int number, const LineSink& sink) {
    auto fd = open_if_there(fmt::format("{}.{}", path_, number));
    if (!fd) {
        return Failure(fd.error());
    }
    if (!fd->is_open()) {
        return {};
    }
    struct stat ours {};
    struct stat current {};
    // The current file may have been rotated after it was opened: it comes later, by its own fd.
    if (current_.is_open() && ::fstat(fd->get(), &ours) == 0 &&
        ::fstat(current_.get(), &current) == 0 && same_file(ours, current)) {
        return {};
    }
    std::string pending;
    return drain(*fd, pending, sink);
}

Result<void> EventsFile::read_all(const LineSink& sink) {
    if (auto opened = open_current(); !opened) {
        return Failure(opened.error());
    }
    for (int number = rotated_files; number >= 1; --number) {
        if (auto read = read_rotated(number, sink); !read) {
            return read;
        }
    }
    return read_new(sink);
}

bool EventsFile::is_rotated_away() const {
    struct stat ours {};
    struct stat named {};
    return ::fstat(current_.get(), &ours) == 0 && ::stat(path_.c_str(), &named) == 0 &&
           !same_file(ours, named);
}

Result<void> EventsFile::read_new(const LineSink& sink) {
    if (!current_.is_open()) {
        const auto opened = open_current();
        if (!opened || !*opened) {
            return ignore_value(opened);
        }
    }
    // Looked at before the last read: what was appended before the rotation is in the old file.
    const bool rotated = is_rotated_away();
    if (auto read = drain(current_, pending_, sink); !read || !rotated) {
        return read;
    }
    const auto opened = open_current();
    if (!opened || !*opened) {
        return ignore_value(opened);
    }
    return drain(current_, pending_, sink);
}

}  // namespace mirror::tools
