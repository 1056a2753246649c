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

}  // namespace mirror::daemon
