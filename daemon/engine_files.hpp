// SPDX-License-Identifier: BSD-3-Clause
// An engine that serves while its files in RUN_DIR are gone: a cleaner of temporary files took
// them, or somebody's rm. It is as healthy as before, its clients keep their connections, and
// only its command line tells of it (running_engines.hpp). Here its files are made again: the pid
// file anew, and the sockets as links to the descriptors by which the engine keeps hold of them
// (plugin.cpp), since a socket can't get its name back. Whoever may use these links has the
// engine's user; others need a new engine. Any thread.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

#include "daemon/engine_process.hpp"

namespace mirror::daemon {

/// Paths of a running engine's that are not there.
[[nodiscard]] std::vector<std::string> missing_engine_files(const EnginePaths& paths);

/// Makes them again, with their folder; what is still missing afterwards is returned.
[[nodiscard]] std::vector<std::string> restore_engine_files(const EnginePaths& paths, pid_t engine);

}  // namespace mirror::daemon
