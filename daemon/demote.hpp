// SPDX-License-Identifier: BSD-3-Clause
// Giving a volume up in good order, the device over it, and what is passed on to wherever the
// volume is active. Called from a request's thread.
#pragma once

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

struct DemoteOptions {
    bool disconnect_clients = false;
    bool dry_run = false;
    std::string cause = "demote";  ///< what the hooks are told
};

/// Answers `text` and `seconds`.
[[nodiscard]] Result<Json> demote(VolumeKeeper& keeper, const DemoteOptions& options);

/// `attach` and `detach`: answer `text`, `device` and `seconds`.
[[nodiscard]] Result<Json> attach(VolumeKeeper& keeper, bool dry_run);
[[nodiscard]] Result<Json> detach(VolumeKeeper& keeper, bool dry_run);

/// `connect`, `disconnect`, `resync` and `verify`: to the engine here, else (when `may_forward`) to
/// the peer where the volume is active.
[[nodiscard]] Result<Json> ask_active(VolumeKeeper& keeper, const Json& request, bool may_forward);

}  // namespace mirror::daemon
