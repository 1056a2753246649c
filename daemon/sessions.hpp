// SPDX-License-Identifier: BSD-3-Clause
// What the active's engine asks of this node (docs/design.md, sections 5 and 7.2). Called from a
// connection's thread.
#pragma once

#include "daemon/audience.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// Protocol, settings and identity are compared, then both summaries: `summary`, `action`,
/// `reason`, as seen from here.
[[nodiscard]] Result<Json> handshake(VolumeKeeper& keeper, const Json& request);
/// Whoever knows a shared key may say that it is the active node. So where nothing has proven it,
/// the active node is asked, over a connection that is opened from here.
[[nodiscard]] Result<Json> session_begin(VolumeKeeper& keeper, const Json& request,
                                         const Asking& asking);
/// Asked of the active node: `is_ours`, whether its engine has begun that session; null where the
/// engine does not say.
[[nodiscard]] Result<Json> session_proof(VolumeKeeper& keeper, const Json& request);
[[nodiscard]] Result<Json> session_synced(VolumeKeeper& keeper, const Json& request);
[[nodiscard]] Result<Json> session_step(VolumeKeeper& keeper, const Json& request);
[[nodiscard]] Result<Json> session_incomplete(VolumeKeeper& keeper, const Json& request);
[[nodiscard]] Result<Json> session_end(VolumeKeeper& keeper, const Json& request);
[[nodiscard]] Result<Json> generation(VolumeKeeper& keeper, const Json& request);
/// Keeps what the active says of the comparison of both replicas.
[[nodiscard]] Result<Json> verify_record(VolumeKeeper& keeper, const Json& request);

}  // namespace mirror::daemon
