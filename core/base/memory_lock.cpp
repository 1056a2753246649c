// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/memory_lock.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <optional>
#include <string_view>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

#include "core/base/log.hpp"
#include "core/base/sanitized.hpp"

namespace mirror {
namespace {

bool has_capability(unsigned number) noexcept {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
    return ::syscall(SYS_capget, &header, sets) == 0 &&
           (sets[number / 32].effective >> (number % 32) & 1U) != 0;
}

/// With a limit, locking all that is to come would make later allocations fail.
bool may_lock_without_limit() noexcept {
    rlimit limit{};
    return has_capability(CAP_IPC_LOCK) ||
           (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY);
}

struct Mapping {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
};

/// A line of /proc/self/maps, "BEGIN-END PERMISSIONS OFFSET DEVICE INODE PATH", when it is a part
/// of a file that can be read.
std::optional<Mapping> readable_file(std::string_view line) noexcept {
    Mapping mapping;
    const char* const end = line.data() + line.size();
    const auto first = std::from_chars(line.data(), end, mapping.begin, 16);
    if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '-') {
        return std::nullopt;
    }
    const auto second = std::from_chars(first.ptr + 1, end, mapping.end, 16);
    if (second.ec != std::errc{} || end - second.ptr < 2 || second.ptr[1] != 'r') {
        return std::nullopt;
    }
    const std::size_t path = line.find('/');  // nothing before it has one
    return path != std::string_view::npos ? std::optional(mapping) : std::nullopt;
}

/// Programs and libraries, so that code that runs for the first time when memory is short needs no
/// disk. What can't be brought in now comes when it is used.
void bring_in_files() noexcept {
    constexpr int populate_read = 22;  // MADV_POPULATE_READ, since Linux 5.14
    std::FILE* maps = std::fopen("/proc/self/maps", "re");
    if (maps == nullptr) {
        return;
    }
    std::array<char, 4096> line{};
    while (std::fgets(line.data(), line.size(), maps) != nullptr) {
        if (const auto mapping = readable_file(line.data())) {
            // What the kernel names in text is an address.
            // NOLINTNEXTLINE(performance-no-int-to-ptr)
            (void)::madvise(reinterpret_cast<void*>(mapping->begin), mapping->end - mapping->begin,
                            populate_read);
        }
    }
    (void)std::fclose(maps);
}

int lock_memory() noexcept {
    if (is_sanitized) {
        return 0;  // their shadow memory is larger than any machine
    }
    if (!may_lock_without_limit()) {
        return EPERM;
    }
    // Without MCL_ONFAULT every stack and every reserve of malloc would be filled: 200 MiB for an
    // engine that uses 5.
    if (::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
        return errno;
    }
    bring_in_files();
    return 0;
}

int set_flusher(bool on) noexcept {
    return ::prctl(PR_SET_IO_FLUSHER, on ? 1UL : 0UL, 0UL, 0UL, 0UL) == 0 ? 0 : errno;
}

}  // namespace

void stand_memory_pressure(const std::string& who) {
    const int lock_error = lock_memory();
    const int flusher_error = set_flusher(true);
    if (lock_error == 0 && flusher_error == 0) {
        return;
    }
    const auto outcome = [](int error) {
        return error == 0 ? std::string("done") : std::generic_category().message(error);
    };
    log(LogLevel::info,
        "{}: memory-pressure protection is incomplete (locking memory: {}; PR_SET_IO_FLUSHER: {}): "
        "a filesystem on a volume of this machine may hang when memory is low",
        who, outcome(lock_error), outcome(flusher_error));
}

CommonThread::CommonThread() noexcept
    : was_flusher_(::prctl(PR_GET_IO_FLUSHER, 0UL, 0UL, 0UL, 0UL) == 1) {
    if (was_flusher_) {
        (void)set_flusher(false);
    }
}

CommonThread::~CommonThread() {
    if (was_flusher_) {
        (void)set_flusher(true);
    }
}

}  // namespace mirror
