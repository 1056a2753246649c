// SPDX-License-Identifier: BSD-3-Clause
// An engine that serves while its files in RUN_DIR are gone: a cleaner of temporary files took
// them, or somebody's rm. It is as healthy as before, its clients keep their connections, and
// nobody else finds it. Here it is found by its command line, and its files are made again: the pid
// file anew, and the sockets as links to the descriptors by which the engine keeps hold of them
// (plugin.cpp), since a socket can't get its name back. Whoever may use these links has the
// engine's user; others need a new engine. Any thread.
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "daemon/engine_process.hpp"

namespace mirror::daemon {

/// The process that was started with this socket, and serves there; nothing when there is none.
[[nodiscard]] std::optional<pid_t> find_engine(const std::string& socket);

/// Paths of a running engine's that are not there.
[[nodiscard]] std::vector<std::string> missing_engine_files(const EnginePaths& paths);

/// Makes them again, with their folder; what is still missing afterwards is returned.
[[nodiscard]] std::vector<std::string> restore_engine_files(const EnginePaths& paths, pid_t engine);

}  // namespace mirror::daemon
