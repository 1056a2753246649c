// SPDX-License-Identifier: BSD-3-Clause
// Starting other programs without fork: none of the process's descriptors, signal masks or locks
// reaches the child. Any thread.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "core/base/error.hpp"

namespace mirror {

/// Where the machine's programs are. Of mirrord itself and of hooks: who could set the PATH that
/// mirrord was started with is not to choose what it runs.
inline constexpr std::string_view program_path =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file to run; a name with a slash is one. Empty: there is none.
[[nodiscard]] std::string find_program(const std::string& name);

struct Program {
    std::vector<std::string> arguments;    ///< the first is looked up as by find_program()
    std::vector<std::string> environment;  ///< "NAME=value"
    int output = -1;                       ///< takes stdout and stderr; -1: those of this process
    int input = -1;                        ///< becomes stdin; -1: /dev/null
};

/// In a session of its own. The caller reaps it.
[[nodiscard]] Result<pid_t> spawn(const Program& program);

/// The process's own environment.
[[nodiscard]] std::vector<std::string> current_environment();

/// Runs a short-lived tool; its output on success. A failure or the deadline (then it is killed)
/// is an error that carries what it printed.
[[nodiscard]] Result<std::string> run_tool(const std::vector<std::string>& arguments,
                                           std::chrono::milliseconds deadline);

}  // namespace mirror
