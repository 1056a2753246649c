// SPDX-License-Identifier: BSD-3-Clause
// How soon after an engine's death its device is connected, and its requests are sent again.
//
// The kernel looks at each request that long after it was sent, again and again, and sends it anew
// when the connection is another one by then: so this is what an engine's death costs, beside the
// start of the next one. A slow engine only makes the kernel log a line for each look.
#pragma once

#include <chrono>

#include "core/config/config.hpp"

namespace mirror::daemon {

/// A second connection would make the kernel give up a slow one after its timer.
constexpr unsigned connections_of_device = 1;

/// A connection that dies again and again is not renewed faster than this.
constexpr std::chrono::milliseconds first_retry{200};

/// Where writes may wait for the peer for hours, they should not fill the kernel's log meanwhile.
[[nodiscard]] inline std::chrono::milliseconds usual_replay_after(const VolumeConfig& volume) {
    return std::chrono::seconds(volume.on_peer_loss == OnPeerLoss::stop ? 10 : 2);
}

}  // namespace mirror::daemon
