// SPDX-License-Identifier: BSD-3-Clause
#include "core/lineage/relation.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace mirror {
namespace {

/// How far `replica` has come in `generation`, which is in its lineage: where it went on from it,
/// or where it is. Nothing where that is not on record.
std::optional<std::uint64_t> step_in(const ReplicaSummary& replica, const GenerationId& generation,
                                     std::uint64_t now) noexcept {
    if (replica.lineage.current() == generation) {
        return now;
    }
    for (const Generation& later : replica.lineage.entries()) {
        if (later.parent == generation) {
            return later.from_step == 0 ? std::nullopt : std::optional(later.from_step);
        }
    }
    return std::nullopt;
}

/// `later` has a generation that goes on from the newest of `earlier`: whether it does so from an
/// older state than `earlier` has.
bool went_on_from_older(const ReplicaSummary& later, const ReplicaSummary& earlier) noexcept {
    const auto from = step_in(later, earlier.lineage.current(), later.steps.newest());
    return from && earlier.steps.content > *from;
}

/// Whether the step is one that the line of `replica` never had: it lies between the end of one of
/// its generations and the number with which the next one began, which a person decided on.
bool is_foreign(const ReplicaSummary& replica, std::uint64_t step) noexcept {
    const auto& entries = replica.lineage.entries();
    return std::any_of(entries.begin(), entries.end(), [&](const Generation& entry) {
        const bool decided = entry.reason == GenerationReason::forced_promotion ||
                             entry.reason == GenerationReason::fenced_promotion;
        return decided && step > entry.from_step && step < entry.from_step + steps_per_decision;
    });
}

bool lacks_steps(const ReplicaSummary& replica, const ReplicaSummary& other) noexcept {
    return replica.steps.newest() < other.steps.taken;
}

}  // namespace

bool was_put_back(const ReplicaSummary& replica, const ReplicaSummary& other) noexcept {
    if (replica.volume != other.volume || !lacks_steps(replica, other)) {
        return false;
    }
    switch (relate(replica.lineage, other.lineage)) {
        case Relation::equal:
            return true;
        case Relation::ahead:
            return !went_on_from_older(replica, other);
        case Relation::unrelated:  // it was made anew, and what it took part in since had this one
            return other.lineage.empty();
        default:
            return false;  // the generations tell
    }
}

Relation relate(const ReplicaSummary& ours, const ReplicaSummary& theirs) noexcept {
    const Relation relation = relate(ours.lineage, theirs.lineage);
    const bool ours_put_back = was_put_back(ours, theirs);
    if (ours_put_back || was_put_back(theirs, ours)) {
        return ours_put_back ? Relation::behind : Relation::ahead;
    }
    const bool parted = (relation == Relation::ahead && went_on_from_older(ours, theirs)) ||
                        (relation == Relation::behind && went_on_from_older(theirs, ours));
    return parted ? Relation::diverged : relation;
}

std::string describe_put_back(const ReplicaSummary& replica, const ReplicaSummary& other) {
    if (replica.doubtful) {
        return fmt::format("the backing of {} is not as it was left", replica.node);
    }
    return fmt::format(
        "{} was restored to an older state, as from an image or a backup: {} followed the volume "
        "to step {}, {} knows of step {}",
        replica.node, other.node, other.steps.taken, replica.node, replica.steps.newest());
}

bool maps_reach_back(const ReplicaSummary& active, const ReplicaSummary& standby) noexcept {
    const auto& entries = active.lineage.entries();
    const auto shared = std::find_if(entries.begin(), entries.end(), [&](const Generation& entry) {
        return standby.lineage.contains(entry.id);
    });
    if (shared == entries.end()) {
        return false;
    }
    const bool one_line = standby.lineage.current() == shared->id;
    if (one_line &&
        (standby.steps.taken > active.steps.newest() || is_foreign(active, standby.steps.taken))) {
        return false;
    }
    const auto reaches = [&](const ReplicaSummary& maps_of, const ReplicaSummary& other) {
        const auto step = step_in(other, shared->id, other.steps.newest());
        return !step || *step >= maps_of.steps.maps_from;
    };
    return reaches(active, standby) && reaches(standby, active);
}

}  // namespace mirror
