// SPDX-License-Identifier: BSD-3-Clause
// Making a volume: everything is checked on both nodes first, then made here, then there; what a
// failed attempt made is removed again, and nothing else. Called from a request's thread.
#pragma once

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

struct CreateOptions {
    bool overwrite_peer = false;
    bool local_only = false;
    bool dry_run = false;
};

/// `create`, from mirrorctl: answers `text` and `seconds`.
[[nodiscard]] Result<Json> create(VolumeKeeper& keeper, const CreateOptions& options);

/// `create-replica`, from the peer's mirrord: answers `empty`.
[[nodiscard]] Result<Json> create_replica(VolumeKeeper& keeper, const Json& request);

}  // namespace mirror::daemon
