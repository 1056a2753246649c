// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/privileges.hpp"

#include <cerrno>
#include <cstdint>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

#include "core/base/log.hpp"
#include "core/base/sanitized.hpp"
#include "core/base/system_call_filter.hpp"
#include "core/base/write_limits.hpp"

namespace mirror {
namespace {

constexpr unsigned most_capabilities = 32 * _LINUX_CAPABILITY_U32S_3;

/// The capabilities of the calling thread.
class Capabilities {
  public:
    Capabilities() noexcept {
        if (::syscall(SYS_capget, &header_, sets_) != 0) {
            error_ = errno;
        }
    }

    [[nodiscard]] bool has(unsigned number) const noexcept {
        return (sets_[number / 32].effective & bit(number)) != 0;
    }
    void remove(unsigned number) noexcept {
        __user_cap_data_struct& set = sets_[number / 32];
        set.effective &= ~bit(number);
        set.permitted &= ~bit(number);
        set.inheritable &= ~bit(number);
    }
    /// 0, or an errno. The kernel takes from the ambient set what the others lack.
    [[nodiscard]] int apply() noexcept {
        if (error_ == 0 && ::syscall(SYS_capset, &header_, sets_) != 0) {
            error_ = errno;
        }
        return error_;
    }

  private:
    static constexpr std::uint32_t bit(unsigned number) noexcept { return 1U << (number % 32); }

    __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets_[_LINUX_CAPABILITY_U32S_3]{};
    int error_ = 0;
};

/// Programs that are started later can't have it. Not permitted without CAP_SETPCAP, but who lacks
/// that is no root, whose programs would have everything.
void forbid_to_programs(unsigned number) noexcept {
    (void)::prctl(PR_CAPBSET_DROP, static_cast<unsigned long>(number), 0UL, 0UL, 0UL);
}

bool locks_without_limit() noexcept {
    // With CAP_SYS_RESOURCE the limit can be taken away, and then no capability is needed.
    constexpr rlimit none{RLIM_INFINITY, RLIM_INFINITY};
    rlimit limit{};
    return ::setrlimit(RLIMIT_MEMLOCK, &none) == 0 ||
           (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY);
}

int give_up_all_capabilities() noexcept {
    Capabilities capabilities;
    const bool keeps_lock = capabilities.has(CAP_IPC_LOCK) && !locks_without_limit();
    for (unsigned number = 0; number < most_capabilities; ++number) {
        forbid_to_programs(number);
        if (number != CAP_IPC_LOCK || !keeps_lock) {
            capabilities.remove(number);
        }
    }
    return capabilities.apply();
}

void report(const std::string& who, const char* what, int error) {
    if (error != 0) {
        log(LogLevel::warning, "{}: could not give up {} ({})", who, what,
            std::generic_category().message(error));
    }
}

}  // namespace

void give_up_privileges(const std::string& who) {
    const int no_new = ::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) == 0 ? 0 : errno;
    report(who, "privileges gained by executing programs", no_new);
    report(who, "its capabilities", give_up_all_capabilities());
    report(who, "system calls that it does not need", refuse_system_calls());
}

void give_up_writing_elsewhere(const std::string& who, std::span<const std::string> folders) {
    if (is_sanitized) {
        return;  // a sanitizer opens the file of its report when it has something to report
    }
    const int error = limit_writes_to(folders);
    if (error == ENOSYS || error == EOPNOTSUPP) {
        log(LogLevel::info,
            "{}: this kernel has no Landlock, or it is not enabled (lsm=): it can still write "
            "every file that its user can write",
            who);
        return;
    }
    report(who, "write access to files outside its directories", error);
}

void give_up_capabilities(const std::string& who, std::span<const unsigned> capabilities) {
    Capabilities own;
    for (const unsigned number : capabilities) {
        forbid_to_programs(number);
        own.remove(number);
    }
    report(who, "capabilities that it does not need", own.apply());
}

}  // namespace mirror
