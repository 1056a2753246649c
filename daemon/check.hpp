// SPDX-License-Identifier: BSD-3-Clause
// `check`: what is wrong with this node, its peers and their configs, before it hurts. Looks only.
// Called from a request's thread.
#pragma once

#include "daemon/peer_watch.hpp"

namespace mirror::daemon {

/// Answers `problems` and `nodes`.
[[nodiscard]] Json check(const Context& context, const PeerWatch& peers);

}  // namespace mirror::daemon
