// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/system_call_filter.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <linux/netlink.h>
#include <memory>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <type_traits>
#include <unistd.h>

#include "core/base/sanitized.hpp"

namespace mirror {
namespace {

constexpr const char* refused_calls[] = {
    // Mounts and what the process sees of the system.
    "mount", "umount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen",
    "fsconfig", "fsmount", "fspick", "mount_setattr", "open_tree_attr", "setns", "unshare",
    // Other processes.
    "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp",
    "pidfd_getfd", "pidfd_send_signal", "tkill", "migrate_pages", "move_pages", "perf_event_open",
    "personality",
    // The kernel, and the machine.
    "init_module", "finit_module", "delete_module", "create_module", "kexec_load",
    "kexec_file_load", "bpf", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd",
    "iopl", "ioperm", "syslog", "nfsservctl", "vhangup", "sethostname", "setdomainname",
    "lookup_dcookie", "uselib",
    // Clocks.
    "settimeofday", "stime", "clock_settime", "clock_settime64", "adjtimex", "clock_adjtime",
    "clock_adjtime64",
    // Keys, files by handle, devices; who goes on with less; and much code in the kernel.
    "add_key", "request_key", "keyctl", "open_by_handle_at", "mknod", "mknodat", "userfaultfd",
    "fanotify_init", "io_uring_setup", "io_uring_enter", "io_uring_register"};

/// A sanitizer looks for leaks as a debugger does, and starts a program that finds line numbers.
constexpr const char* refused_without_sanitizer[] = {"execve", "execveat", "ptrace"};

constexpr std::array allowed_families{AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

constexpr unsigned long namespaces[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                        CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};

using Filter = std::unique_ptr<std::remove_pointer_t<scmp_filter_ctx>, void (*)(scmp_filter_ctx)>;
using Condition = scmp_arg_cmp;

/// The rules of one filter; the first error is kept.
class Rules {
  public:
    explicit Rules(scmp_filter_ctx filter) noexcept : filter_(filter) {}

    /// Calls that this library or machine does not know can't be refused, nor be made by much.
    template <typename... Conditions>
    void refuse(const char* call, int with, Conditions... conditions) noexcept {
        const int number = ::seccomp_syscall_resolve_name(call);
        if (number == __NR_SCMP_ERROR) {
            return;
        }
        const std::array<Condition, sizeof...(conditions)> all{conditions...};
        const int done = ::seccomp_rule_add_array(
            filter_, SCMP_ACT_ERRNO(static_cast<unsigned>(with)), number, all.size(), all.data());
        if (done != 0 && error_ == 0) {
            error_ = -done;
        }
    }
    [[nodiscard]] int error() const noexcept { return error_; }

  private:
    scmp_filter_ctx filter_;
    int error_ = 0;
};

constexpr Condition argument(unsigned index, scmp_compare how, std::uint64_t value,
                             std::uint64_t second = 0) noexcept {
    return {index, how, value, second};
}

void refuse_sockets(Rules& rules) noexcept {
    const int last = *std::max_element(allowed_families.begin(), allowed_families.end());
    for (int family = 0; family <= last; ++family) {
        if (std::find(allowed_families.begin(), allowed_families.end(), family) ==
            allowed_families.end()) {
            rules.refuse("socket", EAFNOSUPPORT,
                         argument(0, SCMP_CMP_EQ, static_cast<unsigned>(family)));
        }
    }
    rules.refuse("socket", EAFNOSUPPORT, argument(0, SCMP_CMP_GT, static_cast<unsigned>(last)));
    // getaddrinfo asks which addresses the machine has; nothing else is spoken over netlink.
    rules.refuse("socket", EPERM, argument(0, SCMP_CMP_EQ, AF_NETLINK),
                 argument(2, SCMP_CMP_NE, NETLINK_ROUTE));
    constexpr std::uint64_t type_bits = 0xf;  // beside SOCK_CLOEXEC and SOCK_NONBLOCK
    for (const int family : {AF_INET, AF_INET6}) {
        rules.refuse("socket", EPERM, argument(0, SCMP_CMP_EQ, static_cast<unsigned>(family)),
                     argument(1, SCMP_CMP_MASKED_EQ, type_bits, SOCK_RAW));
    }
}

/// abort(), raise() and pthread_kill() send to this process, by its number.
void refuse_others(Rules& rules) noexcept {
    const auto own = static_cast<std::uint64_t>(::getpid());
    for (const char* call : {"kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"}) {
        rules.refuse(call, EPERM, argument(0, SCMP_CMP_NE, own));
    }
    // 0 is who asks: so do getrlimit() and setrlimit().
    rules.refuse("prlimit64", EPERM, argument(0, SCMP_CMP_NE, 0));
}

/// Those that type into a terminal, for whoever reads from it.
void refuse_terminals(Rules& rules) noexcept {
    constexpr std::uint64_t looked_at = 0xffffffff;  // by the kernel
    for (const std::uint64_t request : {std::uint64_t{TIOCSTI}, std::uint64_t{TIOCLINUX}}) {
        rules.refuse("ioctl", EPERM, argument(1, SCMP_CMP_MASKED_EQ, looked_at, request));
    }
}

void refuse_namespaces(Rules& rules) noexcept {
#if defined(__s390__)
    constexpr unsigned flags = 1;
#else
    constexpr unsigned flags = 0;
#endif
    for (const unsigned long one : namespaces) {
        rules.refuse("clone", EPERM, argument(flags, SCMP_CMP_MASKED_EQ, one, one));
    }
    // Its flags lie in memory, where a filter can't look: C libraries then take clone.
    rules.refuse("clone3", ENOSYS);
}

int load(scmp_filter_ctx filter) noexcept {
    // Calls of another architecture (32-bit ones) would go around the rules. To end the process, as
    // the library does by default, is no answer to somebody's disk.
    if (const int set = ::seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
        set != 0) {
        return -set;
    }
    (void)::seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    // Older kernels slow down whoever has a filter, as if it ran foreign code.
    (void)::seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    return -::seccomp_load(filter);
}

}  // namespace

int refuse_system_calls() noexcept {
    const Filter filter(::seccomp_init(SCMP_ACT_ALLOW), ::seccomp_release);
    if (!filter) {
        return ENOMEM;
    }
    Rules rules(filter.get());
    for (const char* call : refused_calls) {
        rules.refuse(call, EPERM);
    }
    if (!is_sanitized) {
        for (const char* call : refused_without_sanitizer) {
            rules.refuse(call, EPERM);
        }
    }
    refuse_sockets(rules);
    refuse_others(rules);
    refuse_terminals(rules);
    refuse_namespaces(rules);
    return rules.error() != 0 ? rules.error() : load(filter.get());
}

}  // namespace mirror
