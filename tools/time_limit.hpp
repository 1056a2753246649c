// SPDX-License-Identifier: BSD-3-Clause
// For a monitor: the whole process ends in time, whatever it waits for (a hung mirrord, a disk, a
// name server), with a line and an exit code that were settled before. One per process; called by
// the main thread.
#pragma once

#include <chrono>
#include <string>

namespace mirror::tools {

/// After that time `line` is printed on stdout and the process exits with `code`.
void limit_time(std::chrono::milliseconds limit, const std::string& line, int code);
/// Nothing of that happens any more: the result is about to be printed.
void end_time_limit() noexcept;

}  // namespace mirror::tools
