// SPDX-License-Identifier: BSD-3-Clause
// The undo files of a volume on this node, for the verbs: saving what a resolution gives up, and
// dropping it. Called from a request's thread, under the volume's Operation.
#pragma once

#include "daemon/resolve_plan.hpp"

namespace mirror::daemon {

/// Saves the plan's blocks of the replica here, whole and durable when it returns. Answers `id`,
/// `path` and `saved_bytes`.
[[nodiscard]] Result<Json> save_undo(VolumeKeeper& keeper, Replica& replica, const Sides& sides,
                                     const ResolvePlan& plan);

/// `undo-drop`: `id`, `dry_run`. Takes the Operation itself.
[[nodiscard]] Result<Json> drop_undo(VolumeKeeper& keeper, const Json& request);

}  // namespace mirror::daemon
