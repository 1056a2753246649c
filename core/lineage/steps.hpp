// SPDX-License-Identifier: BSD-3-Clause
// The order of a volume's sessions and checkpoints, which both replicas keep durably: a number that
// grows whenever a session begins, whenever a checkpoint makes everything durable on both, and
// before the first write after a quiet time. A replica that was put back to an older state (an
// image, a snapshot, a backup) has a lower number than it told the other one: so it is known,
// whichever of the two it is, and whether or not there was a session in between.
//
// An active raises the number in three durable parts: it offers it (here), the standby takes it,
// then the active takes it. Nothing is acknowledged under a number before the third part. So an
// active that dies in between has offered what the standby has, and is not taken for one that was
// put back; nor is a standby that was not reached. An image that is younger than the last of these
// moments (ten seconds under load) can't be told from the replica that it was made of.
//
// The numbers of two replicas compare along one line of generations (relation.hpp). Values; any
// thread.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mirror {

/// Larger ones are refused: one that grows every microsecond gets there in two thousand years.
inline constexpr std::uint64_t largest_step = (std::uint64_t{1} << 56U) - 1;

/// A promotion by force, or one that is fenced, leaves out so many: whatever the other replica was
/// told by the active before is older than what it is told now, also where that active knew more
/// than the replica that was promoted.
inline constexpr std::uint64_t steps_per_decision = std::uint64_t{1} << 32U;

/// 0 everywhere: a replica of which no session knew steps yet.
struct Steps {
    /// The newest that this replica has taken.
    std::uint64_t taken = 0;
    /// Of an active: the newest that it offered; the standby may have taken it.
    std::uint64_t offered = 0;
    /// What the content is as of. Of a standby in a resync it is still where it was before.
    std::uint64_t content = 0;
    /// The maps name whatever a peer may lack that has taken this one. What was settled before is
    /// on record nowhere.
    std::uint64_t maps_from = 0;

    /// Nothing was acknowledged after this one while both replicas took part.
    [[nodiscard]] std::uint64_t newest() const noexcept { return std::max(taken, offered); }

    friend bool operator==(const Steps&, const Steps&) = default;
};

/// Of a replica that is made with a volume's content, and of one that is not known to have more:
/// whatever took part in a session is newer.
inline constexpr Steps first_steps{.taken = 1, .offered = 0, .content = 1, .maps_from = 1};

}  // namespace mirror
