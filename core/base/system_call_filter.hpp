// SPDX-License-Identifier: BSD-3-Clause
// The system calls that an engine gives up, for who takes it over would want them: to start
// programs, to look into other processes or signal them, to change mounts, namespaces, modules, the
// clock.
//
// What is listed is what is refused, not what is allowed: glibc, GnuTLS and the sanitizers choose
// other calls with each version and machine, and an engine that is killed, or refused something,
// for a list that has grown old is an outage of somebody's disk.
#pragma once

namespace mirror {

/// For all threads, and for good (a process that is forked later can't even signal itself): needs
/// no_new_privs or CAP_SYS_ADMIN. 0, or an errno where the kernel, or what we run in, has no such
/// filters. Refused calls fail with EPERM, sockets of other families with EAFNOSUPPORT, which
/// libraries expect.
[[nodiscard]] int refuse_system_calls() noexcept;

}  // namespace mirror
