// SPDX-License-Identifier: BSD-3-Clause
// A planned change of roles, coordinated by the node that was asked, whichever that is: check the
// target, demote the active, promote the target; if that fails, promote the old one again.
// Called from a request's thread.
#pragma once

#include <string>

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

struct SwitchOptions {
    std::string to;  ///< empty: the node that is not active
    bool disconnect_clients = false;
    bool dry_run = false;
};

/// Answers `text`, `phases` and `seconds`.
[[nodiscard]] Result<Json> switch_roles(VolumeKeeper& keeper, const SwitchOptions& options);

}  // namespace mirror::daemon
