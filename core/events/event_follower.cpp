// SPDX-License-Identifier: BSD-3-Clause
#include "core/events/event_follower.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <iterator>
#include <span>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/checksum.hpp"
#include "core/base/trusted_file.hpp"
#include "core/base/units.hpp"

namespace mirror {
namespace {

constexpr int rotated_files = 4;  // as EventLog has it
constexpr std::size_t piece_bytes = 64 * KiB;
/// No event is so long: what has no end by then is no line.
constexpr std::size_t longest_line = 1 * MiB;

std::uint32_t checksum(std::string_view text) {
    return crc32c(std::as_bytes(std::span(text)));
}

/// Fewer bytes at the end of the file.
Result<std::string> read_at(int fd, std::uint64_t offset, std::size_t length,
                            const std::string& path) {
    std::string text(length, '\0');
    ssize_t got = -1;
    do {
        got = ::pread(fd, text.data(), length, static_cast<off_t>(offset));
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return fail_errno(errno, path);
    }
    text.resize(static_cast<std::size_t>(got));
    return text;
}

}  // namespace

/// Oldest first. A rotation renames the older ones first, so that the order is right at each of its
/// steps; but not that of names which were looked at before and after one.
std::vector<EventFollower::File> EventFollower::files() const {
    constexpr int most_looks = 100;
    std::vector<File> seen;
    for (int look = 0; look < most_looks; ++look) {
        std::vector<File> now;
        for (int number = rotated_files; number >= 0; --number) {
            File file{number == 0 ? path_ : fmt::format("{}.{}", path_, number), 0};
            struct stat found {};
            if (::stat(file.path.c_str(), &found) == 0 && S_ISREG(found.st_mode)) {
                file.inode = found.st_ino;
                now.push_back(std::move(file));
            }
        }
        const bool is_same =
            std::equal(now.begin(), now.end(), seen.begin(), seen.end(),
                       [](const File& one, const File& other) {
                           return one.path == other.path && one.inode == other.inode;
                       });
        if (look > 0 && is_same) {
            break;
        }
        seen = std::move(now);
    }
    return seen;
}

/// False: another file has that name by now.
Result<bool> EventFollower::open(const File& file) {
    auto opened = open_own_file(file.path, O_RDONLY);
    if (!opened) {
        if (opened.error().kind == ErrorKind::not_found) {
            return false;
        }
        return Failure(opened.error());
    }
    struct stat found {};
    if (::fstat(opened->get(), &found) != 0) {
        return fail_errno(errno, file.path);
    }
    if (found.st_ino != file.inode) {
        return false;
    }
    file_ = std::move(*opened);
    position_ = {.inode = file.inode};
    return true;
}

Result<void> EventFollower::go_to_end() {
    constexpr int most_tries = 100;
    for (int i = 0; i < most_tries; ++i) {
        const std::vector<File> there = files();
        if (there.empty()) {
            return {};
        }
        const auto opened = open(there.back());
        if (!opened) {
            return Failure(opened.error());
        }
        if (*opened) {
            return drain([](std::string_view, const EventPosition&) {});
        }
    }
    return fail(ErrorKind::busy, "{} is rotated again and again", path_);
}

bool EventFollower::has_line_before(const EventPosition& position) const {
    if (position.line_bytes == 0) {
        return true;
    }
    if (position.line_bytes > std::min<std::uint64_t>(position.offset, longest_line)) {
        return false;
    }
    const auto line = read_at(file_.get(), position.offset - position.line_bytes,
                              static_cast<std::size_t>(position.line_bytes), path_);
    return line && line->size() == position.line_bytes && checksum(*line) == position.mark;
}

Result<bool> EventFollower::go_to(const EventPosition& position) {
    file_.reset();
    position_ = {};
    if (position.inode == 0) {
        return true;
    }
    for (const File& file : files()) {
        if (file.inode != position.inode) {
            continue;
        }
        const auto opened = open(file);
        if (!opened) {
            return Failure(opened.error());
        }
        if (*opened && has_line_before(position)) {
            position_ = position;
            return true;
        }
    }
    file_.reset();
    position_ = {};
    return false;
}

void EventFollower::hand_out_lines(std::string_view pending, const Sink& sink) {
    for (std::size_t end = pending.find('\n'); end != std::string_view::npos;
         end = pending.find('\n')) {
        const std::string_view line = pending.substr(0, end + 1);
        position_.offset += line.size();
        position_.line_bytes = line.size();
        position_.mark = checksum(line);
        sink(line.substr(0, end), position_);
        pending.remove_prefix(line.size());
    }
}

Result<void> EventFollower::drain(const Sink& sink) {
    struct stat found {};
    if (::fstat(file_.get(), &found) != 0) {
        return fail_errno(errno, path_);
    }
    if (static_cast<std::uint64_t>(found.st_size) < position_.offset) {
        position_ = {.inode = position_.inode};  // somebody has emptied it
    }
    for (std::size_t wanted = piece_bytes;;) {
        // From the last line's end each time: what was behind it may have been taken back.
        const auto text = read_at(file_.get(), position_.offset, wanted, path_);
        if (!text) {
            return Failure(text.error());
        }
        const std::uint64_t before = position_.offset;
        hand_out_lines(*text, sink);
        if (text->size() < wanted) {
            return {};
        }
        if (position_.offset != before) {
            wanted = piece_bytes;
        } else if (wanted < longest_line) {
            wanted *= 2;
        } else {
            position_.offset += text->size();
            position_.line_bytes = 0;
        }
    }
}

Result<void> EventFollower::read_new(const Sink& sink) {
    for (;;) {
        const std::vector<File> there = files();
        if (!file_.is_open()) {
            if (there.empty()) {
                return {};
            }
            if (const auto opened = open(there.front()); !opened) {
                return Failure(opened.error());
            } else if (!*opened) {
                continue;
            }
        }
        // Looked at before the last read: what was appended before a rotation is in this file.
        const bool is_current = there.empty() || there.back().inode == position_.inode;
        if (auto read = drain(sink); !read || is_current) {
            return read;
        }
        const auto ours = std::find_if(there.begin(), there.end(), [&](const File& file) {
            return file.inode == position_.inode;
        });
        if (const auto opened = open(ours == there.end() ? there.front() : *std::next(ours));
            !opened) {
            return Failure(opened.error());
        }
    }
}

}  // namespace mirror
