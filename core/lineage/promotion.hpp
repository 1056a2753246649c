// SPDX-License-Identifier: BSD-3-Clause
// Whether a replica may become active: promises 7 and 8 as one pure function. Used by mirrord for
// promote, for --dry-run and by the peer that is asked to agree.
#pragma once

#include <optional>
#include <string>

#include "core/lineage/summary.hpp"

namespace mirror {

struct PromotionRequest {
    ReplicaSummary ours;
    /// The peer's summary; nothing when it gave none.
    std::optional<ReplicaSummary> peer;
    /// Why it gave none, a sentence ("beta answers, but …"); empty: it can't be reached.
    std::string peer_absence{};
    /// What would make it give one; empty: to be reachable.
    std::string peer_remedy{};
    bool peer_has_no_replica = false;  ///< so it said: it serves none now
    std::string peer_name;
    bool force = false;
    bool fenced = false;  ///< a cluster manager confirmed that the peer is down
    std::string volume_name;
    WallTime last_write{};  ///< the last that reached our backing; epoch: unknown
};

struct PromotionVerdict {
    bool allowed = false;
    /// A new generation must begin, and why; nothing when the lineage goes on.
    std::optional<GenerationReason> new_generation;
    /// The peer must give up `last_active` durably before we become active.
    bool needs_agreement = false;
    std::string reason;  ///< why it is allowed or refused: a sentence
    std::string remedy;  ///< for a refusal: the command that would be accepted
    std::string loss;    ///< what may be lost by going on: a sentence, empty if nothing
    /// What the replica was when it was judged. While the peer was asked a session may have begun.
    SessionId session{};
    ReplicaState state = ReplicaState::fresh;
    GenerationId generation{};
};

[[nodiscard]] PromotionVerdict judge_promotion(const PromotionRequest& request);

/// For the peer that is asked to agree: `candidate` wants to become active in our stead.
[[nodiscard]] PromotionVerdict judge_agreement(const ReplicaSummary& candidate,
                                               const ReplicaSummary& ours,
                                               const std::string& volume_name);

/// Why no engine may begin to serve from `ours`, whatever the peer says or doesn't: the peer alone
/// has what was acknowledged last.
[[nodiscard]] std::optional<std::string> why_not_serve(const ReplicaSummary& ours,
                                                       const std::string& peer);

/// Why the engine that runs on `node` can't be replaced, once the replica there was left out.
[[nodiscard]] Error no_other_engine(const std::string& volume, const std::string& node,
                                    const std::string& peer);

/// Why an active whose engine died must not start it again, now that its peer answers.
[[nodiscard]] std::optional<std::string> why_not_resume(const ReplicaSummary& ours,
                                                        const ReplicaSummary& theirs);

}  // namespace mirror
