// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/backing_access.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <tuple>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/log.hpp"
#include "core/base/trusted_file.hpp"
#include "daemon/mounter.hpp"

namespace mirror::daemon {
namespace {

bool has_option(const std::string& options, const std::string& wanted) {
    std::istringstream list(options);
    for (std::string option; std::getline(list, option, ',');) {
        if (option == wanted) {
            return true;
        }
    }
    return false;
}

/// A FUSE filesystem without allow_other is closed to everybody but the user that mounted it,
/// whatever the modes of its files say: mount.fuse3(8).
bool is_on_a_mount_of_our_own(const struct stat& found) {
    std::ifstream file("/proc/self/mountinfo");
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const auto mounts = parse_mounts(text);
    const auto here = std::find_if(mounts.begin(), mounts.end(), [&](const MountEntry& entry) {
        return entry.major == gnu_dev_major(found.st_dev) &&
               entry.minor == gnu_dev_minor(found.st_dev);
    });
    return here != mounts.end() && here->type.starts_with("fuse") &&
           has_option(here->options, fmt::format("user_id={}", ::geteuid())) &&
           !has_option(here->options, "allow_other");
}

Result<void> require_no_others(const std::string& path, const struct stat& found) {
    const mode_t others = found.st_mode & (S_IRWXG | S_IRWXO);
    if (others == 0 || is_on_a_mount_of_our_own(found)) {
        return {};
    }
    return Failure(
        Error{ErrorKind::refused,
              fmt::format("{} can be {} by others (mode {:04o}): anyone who can open it has the "
                          "whole disk, and can block its use with a lock",
                          path, (others & (S_IWGRP | S_IWOTH)) != 0 ? "read or written" : "read",
                          found.st_mode & 07777),
              fmt::format("run: chmod 600 {}", path)});
}

std::string parent_of(const std::string& path) {
    return std::filesystem::path(path).parent_path().string();
}

/// The folder in which the filesystem is mounted that the file is on.
std::string above_mount(const std::string& path, const struct stat& file) {
    std::string place = parent_of(path);
    struct stat found {};
    while (place != "/" && ::stat(place.c_str(), &found) == 0 && found.st_dev == file.st_dev) {
        place = parent_of(place);
    }
    return place;
}

}  // namespace

Result<void> require_own_backing(const std::string& path) {
    struct stat found {};
    const bool exists = ::stat(path.c_str(), &found) == 0;
    if (exists && !S_ISREG(found.st_mode)) {
        return {};
    }
    if (exists) {
        if (auto ours = require_no_others(path, found); !ours) {
            return ours;
        }
    }
    const std::string judged = exists && is_on_a_mount_of_our_own(found) ? above_mount(path, found)
                               : exists                                  ? path
                                                                         : parent_of(path);
    const auto trusted = require_trusted_path(judged);
    // What is not there yet is somebody else's to say.
    return trusted || trusted.error().kind == ErrorKind::not_found ? Result<void>()
                                                                   : Failure(trusted.error());
}

bool can_be_closed_to_others(const std::string& path) {
    struct stat found {};
    return ::lstat(path.c_str(), &found) == 0 && S_ISREG(found.st_mode) && found.st_nlink == 1 &&
           found.st_uid == ::geteuid() && (found.st_mode & (S_IWGRP | S_IWOTH)) == 0 &&
           require_trusted_path(path).has_value();
}

Result<void> close_to_others(const std::string& path) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    struct stat found {};
    if (!file.is_open() || ::fstat(file.get(), &found) != 0 ||
        ::fchmod(file.get(), found.st_mode & (S_IRUSR | S_IWUSR)) != 0) {
        return fail_errno(errno, path);
    }
    // A lease is given only for a file that nobody else has open. SIGIO, which would tell that
    // somebody wants to open it, ends a process that does not expect it.
    std::ignore = ::fcntl(file.get(), F_SETSIG, SIGURG);
    if (::fcntl(file.get(), F_SETLEASE, F_WRLCK) != 0) {
        const int error = errno;
        std::ignore = ::fchmod(file.get(), found.st_mode & 07777);
        return error == EAGAIN ? require_no_others(path, found) : fail_errno(error, path);
    }
    std::ignore = ::fcntl(file.get(), F_SETLEASE, F_UNLCK);
    log(LogLevel::info, "{} is empty and could be read by others (mode {:04o}): it is now {:04o}",
        path, found.st_mode & 07777, found.st_mode & (S_IRUSR | S_IWUSR));
    return {};
}

}  // namespace mirror::daemon
