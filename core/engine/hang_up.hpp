// SPDX-License-Identifier: BSD-3-Clause
// Ends the connections of this process's clients. A process that a hung disk holds in the kernel
// keeps its sockets open after SIGKILL, and its clients would wait for answers that never come;
// nbdkit has no way to end a connection from outside it. Called once, at the end of a role.
#pragma once

#include <string>
#include <sys/types.h>

namespace mirror {

/// Every connection that was accepted on the Unix socket at `path`, except from the process
/// `asker`: whoever kills this process next must first get the answer that all others are gone.
void hang_up_clients(const std::string& path, pid_t asker) noexcept;

}  // namespace mirror
