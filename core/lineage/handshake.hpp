// SPDX-License-Identifier: BSD-3-Clause
// What two replicas do when they meet: one pure function of both summaries. Both ends compute it
// and must agree (mirrored); a disagreement is an error, never a resync. The cases are those of
// DRBD's handshake (drbd_uuid_compare, DRBD 9.3), less its trust in equal ids: equal generations
// prove nothing about the data, so a resync always looks at the maps.
#pragma once

#include <string>
#include <string_view>

#include "core/lineage/summary.hpp"

namespace mirror {

enum class Action {
    resync_to_peer,    ///< we are the source: what the maps name (nothing, if they are empty)
    resync_from_peer,  ///< the peer is the source
    full_to_peer,      ///< the peer's replica tells nothing about its content: compare everything
    full_from_peer,
    peer_is_newer,  ///< we are active on data that the peer has gone beyond: do not replicate
    we_are_newer,   ///< the mirror image: the active peer works on data that we have gone beyond
    diverged,       ///< both have writes that the other lacks
    unrelated,      ///< not replicas of one volume
    refuse,         ///< neither can be the source, or both are active
    nobody_active,  ///< two standbys: nothing to do until one is promoted
};
[[nodiscard]] std::string_view to_string(Action action) noexcept;

struct Decision {
    Action action = Action::refuse;
    std::string reason;  ///< a sentence that names both nodes

    /// Whether a session may start from this side as the source.
    [[nodiscard]] bool replicates_to_peer() const noexcept {
        return action == Action::resync_to_peer || action == Action::full_to_peer;
    }
};

/// From the view of `ours`. Order: identity and size, split brain, roles, the source's replica
/// state, lineage, the target's replica state. The lineage comes before the target's state: even
/// a failed or half-overwritten replica that has gone beyond the active is not overwritten unasked.
[[nodiscard]] Decision decide(const ReplicaSummary& ours, const ReplicaSummary& theirs);

/// The action that the other end must have computed.
[[nodiscard]] Action mirrored(Action action) noexcept;

/// Whether the standby was left out because its disk failed, and has not been filled since. It may
/// not know, if its metadata were on that disk; nor do its maps name what it missed.
[[nodiscard]] bool missed_by_failed_disk(const ReplicaSummary& active,
                                         const ReplicaSummary& standby) noexcept;

/// Whether the maps of both name all that may differ: they begin where the other one's data is.
/// Else one of them took part in sessions that the other knows nothing of, or was put back.
[[nodiscard]] bool maps_speak_of(const ReplicaSummary& active,
                                 const ReplicaSummary& standby) noexcept;

/// Whether a person decided a split brain between the two for `keeper`: the data that `loser` holds
/// may be overwritten by it. Only a standby yields, and not when the other one yields as well.
[[nodiscard]] bool yields(const ReplicaSummary& loser, const ReplicaSummary& keeper) noexcept;

/// Whether a person must choose between the two, and has not: both went on from a common ancestor,
/// or both hold data and their histories have nothing in common (never guess).
[[nodiscard]] bool hold_diverged_data(const ReplicaSummary& ours,
                                      const ReplicaSummary& theirs) noexcept;

}  // namespace mirror
