// SPDX-License-Identifier: BSD-3-Clause
#include "core/meta/transitions.hpp"

#include <algorithm>

namespace mirror {
namespace {

/// Generations of one time without the peer that are kept. The others made room in the lineage for
/// what peers have.
constexpr std::size_t most_while_alone = 6;

}  // namespace

void take_over(Superblock& block, const PromotionVerdict& verdict, GenerationId generation,
               WallTime now, const std::string& node) {
    block.role = Role::active;
    block.last_active = true;
    block.yields_to = {};
    block.lacking_bytes = 0;
    if (verdict.new_generation) {
        block.lineage.begin(generation, now, node, *verdict.new_generation,
                            step_to_go_on_from(block));
        block.steps.taken = block.steps.newest() + steps_per_decision;
        // Whatever it was: from now on this is what the volume is.
        block.state = ReplicaState::up_to_date;
        block.solo = true;
        block.break_at = now;
    }
    block.steps.content = block.steps.taken;
    block.doubtful = false;  // whatever it is, it was decided on
}

void give_up_token(Superblock& block) {
    block.last_active = false;
}

void begin_to_serve(Superblock& block) {
    block.unclean = true;
}

void end_serving(Superblock& block, WallTime now) {
    block.role = Role::standby;
    block.unclean = false;
    block.last_update = now;
}

void settle(Superblock& block) {
    block.role = Role::standby;
}

void resume(Superblock& block) {
    block.role = Role::active;
}

void go_alone(Superblock& block, GenerationId generation, WallTime now, WallTime break_at,
              const std::string& node) {
    block.lineage.begin(generation, now, node, GenerationReason::peer_lost,
                        step_to_go_on_from(block));
    block.lineage.shorten_run(most_while_alone);
    block.solo = true;
    block.break_at = break_at;
    block.last_update = now;
}

void take_offer(Superblock& block, const Lineage& offer) {
    if (!block.lineage.contains(offer.current())) {
        block.lineage = offer;
    }
}

void become_stale(Superblock& block, const Lineage& known, WallTime break_at) {
    if (block.state == ReplicaState::up_to_date && block.lineage == known) {
        block.state = ReplicaState::stale;
        block.break_at = break_at;
    }
}

std::uint64_t offer_step(Superblock& active, std::uint64_t above) {
    active.steps.offered = std::max(active.steps.newest(), above) + 1;
    return active.steps.offered;
}

void step_taken(Superblock& active, std::uint64_t step) {
    active.steps.taken = std::max(active.steps.taken, step);
    active.steps.content = active.steps.taken;
}

void join_session(Superblock& standby, const SessionId& session, std::uint64_t step) {
    standby.session = session;
    standby.steps.taken = std::max(standby.steps.taken, step);
    standby.steps.offered = 0;
}

void get_in_sync(Superblock& standby, std::uint64_t step) {
    standby.steps.taken = std::max(standby.steps.taken, step);
    standby.steps.content = standby.steps.taken;
    standby.steps.maps_from = standby.steps.taken;
    standby.doubtful = false;
}

void take_step(Superblock& standby, std::uint64_t step) {
    const bool in_sync = standby.steps.content == standby.steps.taken;
    standby.steps.taken = std::max(standby.steps.taken, step);
    if (in_sync) {
        get_in_sync(standby, step);
    }
}

std::uint64_t step_to_go_on_from(const Superblock& block) noexcept {
    // What a standby has in the middle of a resync is of no step; it was of this one before.
    return block.steps.content < block.steps.taken ? block.steps.content : block.steps.newest();
}

bool holds_nothing_of_worth(const Superblock& block) noexcept {
    return block.state == ReplicaState::fresh || block.state == ReplicaState::failed ||
           (block.state == ReplicaState::inconsistent && block.media_errors > 0);
}

}  // namespace mirror
