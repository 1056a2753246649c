// SPDX-License-Identifier: BSD-3-Clause
// Starting other programs without fork: none of the daemon's descriptors, signal masks or locks
// reaches the child. Any thread.
#pragma once

#include <chrono>
#include <string>
#include <sys/types.h>
#include <vector>

#include "core/base/error.hpp"

namespace mirror::daemon {

struct Program {
    std::vector<std::string> arguments;    ///< the first is looked up on PATH
    std::vector<std::string> environment;  ///< "NAME=value"
    int output = -1;                       ///< takes stdout and stderr; -1: those of the daemon
};

/// In a session of its own, with /dev/null as stdin. The caller reaps it.
[[nodiscard]] Result<pid_t> spawn(const Program& program);

/// The daemon's own environment.
[[nodiscard]] std::vector<std::string> current_environment();

/// Runs a short-lived tool; its output on success. A failure or the deadline (then it is killed)
/// is an error that carries what it printed.
[[nodiscard]] Result<std::string> run_tool(const std::vector<std::string>& arguments,
                                           std::chrono::milliseconds deadline);

}  // namespace mirror::daemon
