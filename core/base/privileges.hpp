// SPDX-License-Identifier: BSD-3-Clause
// A process that strangers talk to must be of little use to whoever takes it over. An engine needs
// what it has opened, its sockets, and files of its own user: everything else is given up for good
// before it serves. mirrord keeps more, since its hooks may do anything that an administrator does;
// it gives up what no hook has a reason for.
//
// Both are called once, by the first thread before there are others. Nothing here fails: what can't
// be given up (an old kernel, a container that forbids it) is logged, and all goes on as before.
#pragma once

#include <span>
#include <string>

namespace mirror {

/// Gives up, for good and for all that the process starts: gaining privileges by a program
/// (no_new_privs), all capabilities, and system calls that an engine never has a reason for, which
/// fail with EPERM from now on. After stand_memory_pressure, whose locks outlive the capability for
/// them, except where locked memory has a limit: then CAP_IPC_LOCK is kept, or later allocations
/// would fail. `who` begins what is logged.
void give_up_privileges(const std::string& who);

/// Gives up, for good, to write files by name elsewhere than beneath `folders`, which are there:
/// core/base/write_limits.hpp. After give_up_privileges, and before there are other threads, since
/// the kernel takes it from the calling one and those that it starts.
void give_up_writing_elsewhere(const std::string& who, std::span<const std::string> folders);

/// Gives up these capabilities (CAP_…), for good and for all that the process starts.
void give_up_capabilities(const std::string& who, std::span<const unsigned> capabilities);

}  // namespace mirror
