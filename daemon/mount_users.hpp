// SPDX-License-Identifier: BSD-3-Clause
// Which processes keep a mounted filesystem busy: by their working directory, root, program, open
// or mapped files. Told by the paths that /proc shows and not by stat(2), which would hang with a
// dead network filesystem of somebody else. Bounded in time and number. Any thread.
#pragma once

#include <chrono>
#include <string>
#include <sys/types.h>
#include <vector>

namespace mirror::daemon {

struct MountUser {
    std::string program;
    pid_t pid = 0;
    std::string how;  ///< "working directory", "/srv/data/log is open"
};

struct MountUserLimits {
    std::size_t most = 8;
    std::chrono::milliseconds time{2000};
};

/// Of the directory, with symbolic links resolved. Needs root to see other users' processes.
[[nodiscard]] std::vector<MountUser> find_mount_users(const std::string& directory,
                                                      const std::string& proc = "/proc",
                                                      MountUserLimits limits = {});

/// "bash (pid 815, working directory), postgres (pid 4711, /srv/data/x is open)".
[[nodiscard]] std::string words(const std::vector<MountUser>& users);

}  // namespace mirror::daemon
