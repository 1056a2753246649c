// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/sticky_folder.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/log.hpp"

namespace mirror {
namespace {

/// Shared by all programs of the machine: never to be made anybody's own.
constexpr std::array<std::string_view, 4> shared_folders{"/tmp", "/var/tmp", "/dev/shm",
                                                         "/run/lock"};

bool is_shared(const std::string& path) {
    std::error_code code;
    const std::string whole = std::filesystem::canonical(path, code).string();
    return code ||
           std::find(shared_folders.begin(), shared_folders.end(), whole) != shared_folders.end();
}

bool is_empty(const std::string& path) {
    std::error_code code;
    const bool empty = std::filesystem::is_empty(path, code);
    return !code && empty;
}

}  // namespace

Result<void> close_sticky_folder(const std::string& path) {
    const Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat found {};
    if (!folder.is_open() || ::fstat(folder.get(), &found) != 0) {
        return {};
    }
    const mode_t mode = found.st_mode & 07777;
    constexpr mode_t writable_by_others = S_IWGRP | S_IWOTH;
    if (found.st_uid != ::geteuid() || (mode & S_ISVTX) == 0 || (mode & writable_by_others) == 0) {
        return {};
    }
    if (is_shared(path) || !is_empty(path)) {
        return {};
    }
    const mode_t own = mode & ~(writable_by_others | S_ISVTX);
    if (::fchmod(folder.get(), own) != 0) {
        return fail_errno(errno, path);
    }
    log(LogLevel::warning,
        "{} could be written to by all users (mode {:04o}, as of a tmpfs that is mounted without "
        "mode=0700): it is now {:04o}",
        path, mode, own);
    return {};
}

}  // namespace mirror
