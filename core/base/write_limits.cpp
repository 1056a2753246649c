// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/write_limits.hpp"

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/fd.hpp"

namespace mirror {
namespace {

// Newer than the headers of the oldest system that this compiles on.
constexpr std::uint64_t truncate_access = std::uint64_t{1} << 14;
constexpr std::uint64_t ioctl_device_access = std::uint64_t{1} << 15;
constexpr long first_with_truncate = 3;
constexpr long first_with_ioctl_device = 5;

constexpr std::uint64_t device_nodes = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK;
constexpr std::uint64_t in_a_folder = LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                      LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                                      LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                                      LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM;

/// What this kernel can refuse. That a file moves to another folder, no version allows unasked.
std::uint64_t all_writes(long version) noexcept {
    std::uint64_t all = LANDLOCK_ACCESS_FS_WRITE_FILE | in_a_folder | device_nodes;
    all |= version >= first_with_truncate ? truncate_access : 0;
    all |= version >= first_with_ioctl_device ? ioctl_device_access : 0;
    return all;
}

int allow(const Fd& rules, const char* path, std::uint64_t access) noexcept {
    const Fd place(::open(path, O_PATH | O_CLOEXEC));
    if (!place.is_open()) {
        return errno;
    }
    const landlock_path_beneath_attr rule{access, place.get()};
    const long done =
        ::syscall(SYS_landlock_add_rule, rules.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    return done == 0 ? 0 : errno;
}

}  // namespace

int limit_writes_to(std::span<const std::string> folders) noexcept {
    const long version =
        ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1) {
        return version < 0 ? errno : EOPNOTSUPP;
    }
    const std::uint64_t all = all_writes(version);
    landlock_ruleset_attr refused{};
    refused.handled_access_fs = all;
    const Fd rules(
        static_cast<int>(::syscall(SYS_landlock_create_ruleset, &refused, sizeof refused, 0)));
    if (!rules.is_open()) {
        return errno;
    }
    const std::uint64_t of_files = all & (LANDLOCK_ACCESS_FS_WRITE_FILE | truncate_access);
    int error = allow(rules, "/dev/null", of_files);
    for (const std::string& folder : folders) {
        error = error != 0 ? error : allow(rules, folder.c_str(), of_files | in_a_folder);
    }
    if (error == 0 && ::syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0) {
        error = errno;
    }
    return error;
}

}  // namespace mirror
