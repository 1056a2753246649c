// SPDX-License-Identifier: BSD-3-Clause
// Making a volume: everything is checked on both nodes first, then made here, then there; what a
// failed attempt made is removed again, and nothing else. Called from a request's thread.
#pragma once

#include "daemon/audience.hpp"
#include "daemon/replica_files.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

struct CreateOptions {
    bool overwrite_peer = false;
    bool local_only = false;
    bool dry_run = false;
    /// With overwrite_peer: also when nothing but zeroes would take the place of the peer's data.
    bool from_empty = false;
    /// Backings that others may read or write, or that are somebody else's, are taken as they are.
    bool accept_mode = false;

    [[nodiscard]] ReplicaFiles::Access access() const noexcept {
        return accept_mode ? ReplicaFiles::Access::as_it_is : ReplicaFiles::Access::ours_alone;
    }
};

/// `create`, from mirrorctl: answers `text` and `seconds`.
[[nodiscard]] Result<Json> create(VolumeKeeper& keeper, const CreateOptions& options);

/// `create-replica`, from the peer's mirrord: answers `empty`, and what it holds.
[[nodiscard]] Result<Json> create_replica(VolumeKeeper& keeper, const Json& request,
                                          const Asking& asking);

}  // namespace mirror::daemon
