// SPDX-License-Identifier: BSD-3-Clause
// Who keeps a file locked, for the message of whoever wanted the lock: what is written in a lock
// file is the last holder's word, who may be dead. Any thread.
#pragma once

#include <string>
#include <sys/stat.h>

namespace mirror {

struct LockHolder {
    long pid = 0;         ///< 0: it can't be told (a network filesystem, another pid namespace)
    std::string program;  ///< its name, as proc(5) has it in `comm`; may be empty
    std::string user;     ///< its uid; may be empty
};

/// The process that holds a flock(2) on the file, as proc_locks(5) shows it.
[[nodiscard]] LockHolder lock_holder(const struct stat& file);

}  // namespace mirror
