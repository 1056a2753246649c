// SPDX-License-Identifier: BSD-3-Clause
#include "core/store/identity.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fmt/format.h>

#include "core/base/fd.hpp"

namespace mirror {
namespace {

namespace fs = std::filesystem;

/// The first line of a file of sysfs without blanks at its ends; empty when there is none.
std::string read_attribute(const fs::path& file) {
    std::ifstream stream(file);
    std::string line;
    std::getline(stream, line);
    const auto first = line.find_first_not_of(" \t");
    const auto last = line.find_last_not_of(" \t\r\n");
    return first == std::string::npos ? std::string() : line.substr(first, last - first + 1);
}

/// What the disk itself is called, from the place of a whole disk in sysfs.
std::string name_of_disk(const fs::path& disk) {
    constexpr std::array<std::pair<std::string_view, const char*>, 7> attributes{{
        {"dm", "dm/uuid"},
        {"md", "md/uuid"},
        {"wwid", "wwid"},
        {"wwid", "device/wwid"},
        {"serial", "serial"},
        {"serial", "device/serial"},
        {"loop", "loop/backing_file"},
    }};
    for (const auto& [kind, file] : attributes) {
        const std::string value = read_attribute(disk / file);
        if (kind == "loop" && !value.empty()) {
            return "loop " + identity_at(value).value_or(value);
        }
        if (!value.empty()) {
            return fmt::format("{} {}", kind, value);
        }
    }
    return {};
}

std::string name_of_device(dev_t device) {
    std::error_code ignored;
    const fs::path link =
        fmt::format("/sys/dev/block/{}:{}", gnu_dev_major(device), gnu_dev_minor(device));
    const fs::path place = fs::canonical(link, ignored);
    if (ignored) {
        return {};
    }
    const std::string partition = read_attribute(place / "partition");
    if (partition.empty()) {
        return name_of_disk(place);
    }
    const std::string disk = name_of_disk(place.parent_path());
    return disk.empty() ? std::string()
                        : fmt::format("{} partition {} at {}", disk, partition,
                                      read_attribute(place / "start"));
}

Result<struct statx> look(int descriptor, const std::string& path) {
    struct statx found {};
    if (::statx(descriptor, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) {
        return fail_errno(errno, path);
    }
    return found;
}

}  // namespace

Result<std::string> identity_of(int descriptor, const std::string& path) {
    const auto found = look(descriptor, path);
    if (!found) {
        return Failure(found.error());
    }
    std::string identity;
    if (S_ISBLK(found->stx_mode)) {
        identity = name_of_device(gnu_dev_makedev(found->stx_rdev_major, found->stx_rdev_minor));
    } else {
        identity = fmt::format("inode {}", found->stx_ino);
        if ((found->stx_mask & STATX_BTIME) != 0) {
            identity +=
                fmt::format(" born {}.{:09}", found->stx_btime.tv_sec, found->stx_btime.tv_nsec);
        }
    }
    return identity.substr(0, longest_identity);
}

Result<std::string> identity_at(const std::string& path) {
    // Nothing is read from it, so that a device that hangs holds nobody up.
    const Fd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd.is_open()) {
        return fail_errno(errno, path);
    }
    return identity_of(fd.get(), path);
}

Result<std::uint64_t> change_mark(int descriptor, const std::string& path) {
    const auto found = look(descriptor, path);
    if (!found) {
        return Failure(found.error());
    }
    if (S_ISBLK(found->stx_mode)) {
        return 0;
    }
    constexpr std::uint64_t nanoseconds = 1'000'000'000;
    return static_cast<std::uint64_t>(found->stx_ctime.tv_sec) * nanoseconds +
           found->stx_ctime.tv_nsec;
}

}  // namespace mirror
