// SPDX-License-Identifier: BSD-3-Clause
// Where a process may still write, by Landlock (landlock(7)). An engine of root's that is taken
// over owns every file of root's: hooks, disks, the memory of other processes. What it writes by
// name when it serves lies in two folders, and the rest is taken from it.
//
// Reading is left alone: what a look-up of a name, a rotated key or a library reads differs from
// system to system, and moves while the engine runs; to be refused it is an outage.
#pragma once

#include <span>
#include <string>

namespace mirror {

/// From now on, and for good, the calling thread, and those that it starts, can open files for
/// writing, make, rename and remove them only beneath `folders`, and write to /dev/null. What is
/// open stays as it is. Needs no_new_privs or CAP_SYS_ADMIN. 0, or an errno and nothing changed;
/// where the kernel has no Landlock, ENOSYS or EOPNOTSUPP.
[[nodiscard]] int limit_writes_to(std::span<const std::string> folders) noexcept;

}  // namespace mirror
