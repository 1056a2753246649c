// SPDX-License-Identifier: BSD-3-Clause
// How many connections a device has and how long its requests may take, from the volume's settings.
//
// The kernel sends a request again when its time is over, and no earlier, even when the engine that
// had it is long dead: so the time is the pause that an engine's death costs. And it takes a server
// that is slower for a dead one: so the time is longer than the engine's longest stall, for which
// it answers with the peer's or the disk's patience.
#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/config/config.hpp"

namespace mirror::daemon {

/// For the engine's own work around the longest stall, on a busy machine.
constexpr std::chrono::seconds timeout_margin{2};

/// The end of doubling, when a disk is slower than anything that was configured: what is waiting is
/// sent twice that often only.
constexpr std::chrono::seconds longest_timeout{120};

/// 0: without end. Under `on_peer_loss = "stop"` a write may wait for the peer for hours; a second
/// connection would make the kernel lose patience nonetheless (after 30 s).
[[nodiscard]] inline std::chrono::seconds request_timeout(const VolumeConfig& volume) {
    if (volume.on_peer_loss == OnPeerLoss::stop) {
        return std::chrono::seconds(0);
    }
    return std::chrono::ceil<std::chrono::seconds>(
               std::max(volume.peer_timeout, volume.disk_timeout)) +
           timeout_margin;
}

/// The kernel has a queue for each.
[[nodiscard]] inline unsigned connections_for(const VolumeConfig& volume) {
    constexpr unsigned most = 4;
    return volume.on_peer_loss == OnPeerLoss::stop
               ? 1
               : std::clamp(std::thread::hardware_concurrency(), 1U, most);
}

}  // namespace mirror::daemon
