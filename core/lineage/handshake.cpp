// SPDX-License-Identifier: BSD-3-Clause
#include "core/lineage/handshake.hpp"

#include <fmt/format.h>

#include "core/lineage/relation.hpp"
#include "core/lineage/words.hpp"

namespace mirror {
namespace {

constexpr detail::Words<Action, 10> action_words{{
    {Action::resync_to_peer, "resync-to-peer"},
    {Action::resync_from_peer, "resync-from-peer"},
    {Action::full_to_peer, "full-to-peer"},
    {Action::full_from_peer, "full-from-peer"},
    {Action::peer_is_newer, "peer-is-newer"},
    {Action::we_are_newer, "we-are-newer"},
    {Action::diverged, "diverged"},
    {Action::unrelated, "unrelated"},
    {Action::refuse, "refuse"},
    {Action::nobody_active, "nobody-active"},
}};

/// The failed one is left out here although its disk holds something: nobody may rely on it.
bool has_usable_content(const ReplicaSummary& replica) noexcept {
    return replica.state == ReplicaState::up_to_date || replica.state == ReplicaState::stale;
}

std::string describe(const ReplicaSummary& replica) {
    return fmt::format("{} ({}, {})", replica.node, to_string(replica.role),
                       to_string(replica.state));
}

Decision decide_diverged(const ReplicaSummary& ours, const ReplicaSummary& theirs,
                         Relation relation) {
    if (relation == Relation::unrelated) {
        return {Action::diverged, fmt::format("{} and {} have no generation in common, and both "
                                              "hold data: you must choose which one to keep",
                                              describe(ours), describe(theirs))};
    }
    return {Action::diverged, fmt::format("{} and {} have diverged since a common generation: both "
                                          "have writes that the other lacks",
                                          describe(ours), describe(theirs))};
}

bool names_as_heir(const ReplicaSummary& loser, const ReplicaSummary& keeper) noexcept {
    return loser.role == Role::standby && !loser.yields_to.is_none() &&
           keeper.lineage.contains(loser.yields_to);
}

/// For two replicas with the same role, of which none can be the source now.
std::string who_is_newer(const ReplicaSummary& ours, const ReplicaSummary& theirs,
                         Relation relation) {
    if (yields(ours, theirs) || yields(theirs, ours)) {
        const bool we_yield = yields(ours, theirs);
        return fmt::format("the data of {} was given up in favour of that of {}: promote {}",
                           (we_yield ? ours : theirs).node, (we_yield ? theirs : ours).node,
                           (we_yield ? theirs : ours).node);
    }
    switch (relation) {
        case Relation::ahead:
            return fmt::format("{} is newer than {}", ours.node, theirs.node);
        case Relation::behind:
            return fmt::format("{} is newer than {}", theirs.node, ours.node);
        case Relation::equal:
            return fmt::format("{} and {} have the same generation", ours.node, theirs.node);
        default:
            return fmt::format("{} is {} and {} is {}", ours.node, to_string(ours.state),
                               theirs.node, to_string(theirs.state));
    }
}

Decision decide_both_active(const ReplicaSummary& ours, const ReplicaSummary& theirs,
                            Relation relation) {
    std::string advice = "one of them must be demoted";
    if (relation == Relation::ahead || relation == Relation::behind) {
        advice = fmt::format("demote {}", relation == Relation::ahead ? theirs.node : ours.node);
    }
    return {Action::refuse, fmt::format("{} and {} are both active; {}: {}", ours.node, theirs.node,
                                        who_is_newer(ours, theirs, relation), advice)};
}

/// Exactly one is active. From its view, so that both ends run through the same lines; `relation`
/// is the active's.
Decision decide_with_source(const ReplicaSummary& active, const ReplicaSummary& standby,
                            Relation relation) {
    if (!has_usable_content(active)) {
        return {Action::refuse,
                fmt::format("{} is active but its replica is {}, so it can't be the source for {}",
                            active.node, to_string(active.state), describe(standby))};
    }
    if (was_put_back(active, standby)) {
        return {Action::peer_is_newer, describe_put_back(active, standby)};
    }
    if (relation == Relation::behind) {
        return {Action::peer_is_newer, fmt::format("{} has newer data than {}, which is active",
                                                   describe(standby), active.node)};
    }
    if (missed_by_failed_disk(active, standby)) {
        return {
            Action::full_to_peer,
            fmt::format(
                "the disk of {} failed and {} continued from the other copy: all of {} is compared",
                standby.node, describe(active), standby.node)};
    }
    const bool told_nothing = standby.state == ReplicaState::fresh ||
                              standby.state == ReplicaState::failed ||
                              relation == Relation::unrelated;
    if (told_nothing) {
        return {Action::full_to_peer,
                fmt::format("{} has unknown content: all of it is compared with {}",
                            describe(standby), active.node)};
    }
    if (standby.doubtful || was_put_back(standby, active)) {
        return {Action::full_to_peer,
                describe_put_back(standby, active) + ": all of it is compared"};
    }
    if (!maps_speak_of(active, standby)) {
        return {Action::full_to_peer,
                fmt::format("{} and {} disagree about their last session, as after a restore from "
                            "a backup: all of {} is compared",
                            describe(standby), active.node, standby.node)};
    }
    if (yields(standby, active)) {
        return {
            Action::resync_to_peer,
            fmt::format("{} gave up its own writes in favour of the data of {} (mirrorctl "
                        "resolve): the blocks that differ since their common generation are sent",
                        describe(standby), describe(active))};
    }
    if (standby.unclean) {
        return {Action::resync_to_peer,
                fmt::format("{} was active and did not end cleanly: its unacknowledged writes are "
                            "replaced with the data of {}",
                            describe(standby), describe(active))};
    }
    if (relation == Relation::equal) {
        return {Action::resync_to_peer, fmt::format("{} and {} are at the same point of their "
                                                    "history: only blocks that may differ are sent",
                                                    active.node, standby.node)};
    }
    return {Action::resync_to_peer,
            fmt::format("{} is behind {}: changed blocks are sent", standby.node, active.node)};
}

/// A resize that was cut short leaves the standby larger, and all that the active has fits into it.
bool fits(const ReplicaSummary& active, const ReplicaSummary& standby) noexcept {
    return active.size <= standby.size;
}

Decision decide_sized(const ReplicaSummary& active, const ReplicaSummary& standby,
                      Relation relation) {
    if (!fits(active, standby)) {
        return {Action::refuse,
                fmt::format("{} has {} bytes and {} has only {}: mirrorctl resize makes it larger",
                            describe(active), active.size, describe(standby), standby.size)};
    }
    return decide_with_source(active, standby, relation);
}

Relation mirrored(Relation relation) noexcept {
    switch (relation) {
        case Relation::ahead:
            return Relation::behind;
        case Relation::behind:
            return Relation::ahead;
        default:
            return relation;
    }
}

}  // namespace

std::string_view to_string(Action action) noexcept {
    return detail::word_of(action_words, action);
}

Action mirrored(Action action) noexcept {
    switch (action) {
        case Action::resync_to_peer:
            return Action::resync_from_peer;
        case Action::resync_from_peer:
            return Action::resync_to_peer;
        case Action::full_to_peer:
            return Action::full_from_peer;
        case Action::full_from_peer:
            return Action::full_to_peer;
        case Action::peer_is_newer:
            return Action::we_are_newer;
        case Action::we_are_newer:
            return Action::peer_is_newer;
        default:
            return action;
    }
}

bool missed_by_failed_disk(const ReplicaSummary& active, const ReplicaSummary& standby) noexcept {
    for (const Generation& generation : active.lineage.entries()) {
        if (standby.lineage.contains(generation.id)) {
            return false;
        }
        if (generation.reason == GenerationReason::local_disk_failed &&
            generation.node == standby.node) {
            return true;
        }
    }
    return false;
}

/// What a replica lacks is recorded relative to the newest session. Generations do not tell: many
/// sessions end and begin within one, and each clears what it has sent. Within a session each
/// checkpoint clears what both have, which a replica that was put back does not have any more.
bool maps_speak_of(const ReplicaSummary& active, const ReplicaSummary& standby) noexcept {
    const bool same_session =
        standby.session == active.session ||
        (standby.session == active.session_begun && !active.session_begun.is_none());
    return same_session && maps_reach_back(active, standby);
}

bool yields(const ReplicaSummary& loser, const ReplicaSummary& keeper) noexcept {
    return names_as_heir(loser, keeper) && !names_as_heir(keeper, loser);
}

bool hold_diverged_data(const ReplicaSummary& ours, const ReplicaSummary& theirs) noexcept {
    if (yields(ours, theirs) || yields(theirs, ours)) {
        return false;
    }
    const Relation relation = relate(ours, theirs);
    // A history longer than what is kept looks unrelated, and so does a foreign one. Where one
    // side holds nothing that counts, filling it is safe; else a person must choose.
    return relation == Relation::diverged ||
           (relation == Relation::unrelated && has_usable_content(ours) &&
            has_usable_content(theirs));
}

Decision decide(const ReplicaSummary& ours, const ReplicaSummary& theirs) {
    if (ours.volume != theirs.volume) {
        return {Action::unrelated,
                fmt::format("{} holds volume {} and {} holds volume {}: not replicas of one volume",
                            ours.node, short_form(ours.volume), theirs.node,
                            short_form(theirs.volume))};
    }
    const Relation relation = relate(ours, theirs);
    if (hold_diverged_data(ours, theirs)) {
        return decide_diverged(ours, theirs, relation);
    }
    if (ours.role == Role::active && theirs.role == Role::active) {
        return decide_both_active(ours, theirs, relation);
    }
    if (ours.role == Role::active) {
        return decide_sized(ours, theirs, relation);
    }
    if (theirs.role == Role::active) {
        Decision seen_there = decide_sized(theirs, ours, mirrored(relation));
        seen_there.action = mirrored(seen_there.action);
        return seen_there;
    }
    return {Action::nobody_active, fmt::format("neither {} nor {} is active; {}", ours.node,
                                               theirs.node, who_is_newer(ours, theirs, relation))};
}

}  // namespace mirror
