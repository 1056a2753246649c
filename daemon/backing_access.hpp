// SPDX-License-Identifier: BSD-3-Clause
// A backing that is a regular file is the disk itself: who can read it reads all of the disk, and
// can keep an engine from starting by a lock on it. A device's access is the machine's (udev's) to
// say. Any thread; it asks the file system.
#pragma once

#include <string>

#include "core/base/error.hpp"

namespace mirror::daemon {

/// Fails where somebody else than its owner could use the file, or the owner is neither root nor
/// we, or others could put another file in its place. A file that is not there is fine where its
/// folder is.
[[nodiscard]] Result<void> require_own_backing(const std::string& path);

/// Whether all that is wrong with the file is that others may read it: a file of this process's
/// user, with one name, where nobody else could exchange it.
[[nodiscard]] bool can_be_closed_to_others(const std::string& path);
/// Makes such a file its owner's alone (mode 0600). For one without data: what it has, others may
/// have read. Fails, and changes nothing, where another program has it open or that can't be found
/// out.
[[nodiscard]] Result<void> close_to_others(const std::string& path);

}  // namespace mirror::daemon
