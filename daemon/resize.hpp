// SPDX-License-Identifier: BSD-3-Clause
// Making a volume larger on both nodes while it is in use (docs/design.md, section 12). Carried out
// by the mirrord of the active node; asked elsewhere it is passed on. Called from a request's
// thread.
#pragma once

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// `size_bytes`, `more_bytes` or neither, `disconnect_clients`, `dry_run`. Answers `text`,
/// `size_bytes`, `pause_seconds`, `seconds`.
[[nodiscard]] Result<Json> resize(VolumeKeeper& keeper, const Json& request, bool may_forward);

}  // namespace mirror::daemon
