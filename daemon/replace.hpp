// SPDX-License-Identifier: BSD-3-Clause
// `create --replace`: this node's replica failed, its disk was replaced or is to be trusted again
// from scratch. It is made anew, empty as far as anybody knows, and joins the volume of the peer,
// which fills it by a full resync. Called from a request's thread.
#pragma once

#include "daemon/replica_files.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// Answers `text` and `seconds`; with `dry_run` the plan, and as `loss` what would be overwritten.
/// Refuses while this replica is of use, and without an up-to-date one at a peer within reach.
[[nodiscard]] Result<Json> replace_replica(VolumeKeeper& keeper, bool dry_run,
                                           ReplicaFiles::Access access);

}  // namespace mirror::daemon
