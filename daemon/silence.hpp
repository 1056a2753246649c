// SPDX-License-Identifier: BSD-3-Clause
// How long another node's machine may give no sign of life before its connections to this mirrord,
// and this mirrord's to it, count as broken. One figure for all, from the config; pure.
#pragma once

#include <chrono>

#include "core/config/config.hpp"

namespace mirror::daemon {

/// The longest peer_timeout of all volumes: a connection is accepted before it says which one it
/// speaks of. At least nbd::least_silence.
[[nodiscard]] std::chrono::milliseconds silence_of(const Config& config);

}  // namespace mirror::daemon
