// SPDX-License-Identifier: BSD-3-Clause
// Deciding a split brain (docs/design.md, section 4.1). All of the work is done on the losing node,
// in an order that a crash at any moment leaves either a split brain as before, or a replica that
// yields and whose undo file is whole: save, sync, then record. Called from a request's thread.
#pragma once

#include <string>

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

struct ResolveOptions {
    std::string keep;  ///< the node whose data stays
    bool dry_run = false;
    bool no_undo = false;
    bool disconnect_clients = false;
    bool may_forward = false;  ///< asked by a person here: the losing node may be the other one
};

/// Answers `text`, `loss`, `lost_bytes`, `undo` (`{id, path, saved_bytes}` or null) and `seconds`;
/// with dry_run `would`, `loss`, `lost_bytes`, `undo_bytes`, `free_bytes` and `obstacle`: the error
/// (`kind`, `message`, `remedy`) that the real run would end with as things are, or null.
[[nodiscard]] Result<Json> resolve(VolumeKeeper& keeper, const ResolveOptions& options);

/// The losing node asks before it yields: `node`, `generation`. Takes back durably that this
/// replica yields, if it does, so that never both do.
[[nodiscard]] Result<Json> resolve_agree(VolumeKeeper& keeper, const Json& request);

}  // namespace mirror::daemon
