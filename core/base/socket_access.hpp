// SPDX-License-Identifier: BSD-3-Clause
// Who may connect to a Unix socket of this project: its owner, and the members of a group where the
// configuration names one. Any thread; nothing is owned.
#pragma once

#include <string>
#include <sys/types.h>

#include "core/base/error.hpp"

namespace mirror {

/// Of this machine, by its name.
[[nodiscard]] Result<gid_t> find_group(const std::string& name);

/// For the owner alone, or for the owner and `group` (not empty). To be called for a socket that
/// nobody but its owner can connect to yet; its owner's it stays where the group can't have it.
[[nodiscard]] Result<void> open_socket_to(const std::string& path, const std::string& group);

}  // namespace mirror
