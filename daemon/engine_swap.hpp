// SPDX-License-Identifier: BSD-3-Clause
// Replacing an active volume's engine in good order, while it is in use. Called from a request's
// thread.
//
// The old engine answers what it has, holds back what comes after that and makes everything durable
// on both nodes; then it is killed, since nbdkit's own way to stop answers with errors. The kernel
// sends again what was held back, when its time is over: so that is made short first.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "core/base/json.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

struct SwapOptions {
    /// Also while clients other than the kernel's device are connected: they see their connection
    /// closed. Those that connect again by themselves (QEMU with reconnect-delay) lose nothing.
    bool disconnect_clients = false;
};

struct SwapOutcome {
    /// The longest time in which the device's users waited and got no answer; nothing without a
    /// device or when nobody waited.
    std::optional<std::chrono::milliseconds> stall;
    /// From the last answer of the old engine to the readiness of the new one.
    std::chrono::milliseconds unserved{0};
    Json phases;
    double seconds = 0;

    [[nodiscard]] double pause_seconds() const {
        return std::chrono::duration<double>(stall.value_or(unserved)).count();
    }
};

/// Whether a swap can begin: the volume is active here, served, and used by nobody else.
[[nodiscard]] Result<void> require_swap(VolumeKeeper& keeper, const SwapOptions& options);

/// `between` runs when the old engine has ended and nobody has its files open; its superblock says
/// active. Then a new engine is started, also when `between` failed, whose error is returned then.
/// Before the old engine ends, a failure changes nothing; after that the supervisor goes on trying,
/// and so does mirrord's next start should it die in the middle.
[[nodiscard]] Result<SwapOutcome> swap_engine(VolumeKeeper& keeper,
                                              const VolumeKeeper::Operation& operation,
                                              const SwapOptions& options,
                                              const std::function<Result<void>()>& between);

}  // namespace mirror::daemon
