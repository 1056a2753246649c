// SPDX-License-Identifier: BSD-3-Clause
// The steps around a change of role (role_steps.hpp) for a volume that is kept here.
#pragma once

#include <string>

#include "daemon/role_steps.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// `reason` is what the hooks are told: "promote", "demote", "switch", …
[[nodiscard]] RoleSteps steps_of(VolumeKeeper& keeper, const std::string& reason);

/// Where the volume's device is mounted, or null; for the status.
[[nodiscard]] Json mounted_on(const VolumeConfig& config);

}  // namespace mirror::daemon
