// SPDX-License-Identifier: BSD-3-Clause
// What one replica says of itself when two meet: all that the decisions in handshake.hpp and
// promotion.hpp may look at. Values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/lineage/generation.hpp"
#include "core/lineage/steps.hpp"

namespace mirror {

enum class Role { standby, active };
[[nodiscard]] std::string_view to_string(Role role) noexcept;
[[nodiscard]] Result<Role> parse_role(std::string_view word);

enum class ReplicaState {
    fresh,         ///< "new": made, never filled by anybody
    up_to_date,    ///< consistent; the newest that this node knows of
    stale,         ///< consistent, but the peer is known to have gone on without it
    inconsistent,  ///< partly overwritten by a resync that has not ended
    failed,        ///< its disk failed; content must not be trusted
};
[[nodiscard]] std::string_view to_string(ReplicaState state) noexcept;
[[nodiscard]] Result<ReplicaState> parse_replica_state(std::string_view word);

struct ReplicaSummary {
    std::string node;
    VolumeId volume;
    std::uint64_t size = 0;  ///< bytes
    Role role = Role::standby;
    ReplicaState state = ReplicaState::fresh;
    /// Was active and did not end by a clean demote: may hold writes that nobody answered.
    bool unclean = false;
    /// This node was active last, and gave that up to nobody: it may be promoted alone.
    bool last_active = false;
    Lineage lineage;
    /// The newest session it took part in, which is what an active's maps speak of.
    SessionId session;
    /// Of an active: one that it began without hearing the answer; may be the standby's newest.
    SessionId session_begun{};
    std::uint64_t intent_bytes = 0;   ///< regions that may differ from the peer
    std::uint64_t changed_bytes = 0;  ///< blocks that the peer is known to lack
    WallTime last_update{};           ///< last write that this replica took; epoch when unknown
    WallTime break_at{};              ///< epoch when in session or never broken
    /// A person decided a split brain against this replica: a peer that holds this generation may
    /// overwrite it. None: nobody did.
    GenerationId yields_to;
    /// Of an inconsistent one whose resync went as far as the source could be read: it lacks no
    /// more than this. 0: unknown.
    std::uint64_t lacking_bytes = 0;
    Steps steps;
    /// The backing is not the one that the rest speaks of, or somebody else wrote to it: what it
    /// holds is not known before all of it was compared.
    bool doubtful = false;
};

}  // namespace mirror
