// SPDX-License-Identifier: BSD-3-Clause
// `check`: what is wrong with this node, its peers and their configs, before it hurts. Looks only.
// Called from a request's thread.
#pragma once

#include "daemon/check_tls.hpp"

namespace mirror::daemon {

/// Answers `problems` and `nodes`, and what check_tls() answers.
[[nodiscard]] Json check(const Context& context, const PeerWatch& peers, const Keepers& keepers);

}  // namespace mirror::daemon
