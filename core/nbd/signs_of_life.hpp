// SPDX-License-Identifier: BSD-3-Clause
// How a link tells a peer that works through its queue from one that is silent. A command is
// answered when the peer's disk has done it and everything before it, and a disk may need long for
// a queue: a flush of what a page cache took in a second, zeroes, a comparison. While a command
// waits, the link asks these signs now and then how the connection's work over there gets on; who
// answers (core/nbd/peer_progress.hpp) does so beside the work, on a connection of its own.
#pragma once

#include <chrono>
#include <cstddef>

#include "core/base/clock.hpp"

namespace mirror::nbd {

/// However much progress there is, nobody waits longer for one command: a disk that takes minutes
/// for what was queued is of no more use to an application than one that hangs.
inline constexpr std::chrono::milliseconds patience_with_work{120000};

/// Called by the links' event threads, and by whoever receives for them.
class SignsOfLife {
  public:
    virtual ~SignsOfLife() = default;

    /// Asks the peer, without waiting for its answer. Nothing where a question is under way.
    virtual void look() = 0;
    /// When the work of one of the peer's connections last got on, as far as is known: a command,
    /// or a piece of one, was done, and the next is at the disk. The epoch: never, or nothing of
    /// that connection is at the disk.
    [[nodiscard]] virtual SteadyTime last_progress(std::size_t lane) const noexcept = 0;
};

}  // namespace mirror::nbd
