// SPDX-License-Identifier: BSD-3-Clause
#include "core/meta/transitions.hpp"

namespace mirror {

void take_over(Superblock& block, const PromotionVerdict& verdict, GenerationId generation,
               WallTime now, const std::string& node) {
    block.role = Role::active;
    block.last_active = true;
    block.yields_to = {};
    block.lacking_bytes = 0;
    if (verdict.new_generation) {
        block.lineage.begin(generation, now, node, *verdict.new_generation);
        // Whatever it was: from now on this is what the volume is.
        block.state = ReplicaState::up_to_date;
        block.solo = true;
        block.break_at = now;
    }
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
    if (!block.solo) {
        block.lineage.begin(generation, now, node, GenerationReason::peer_lost);
    }
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

bool holds_nothing_of_worth(const Superblock& block) noexcept {
    return block.state == ReplicaState::fresh || block.state == ReplicaState::failed ||
           (block.state == ReplicaState::inconsistent && block.media_errors > 0);
}

}  // namespace mirror
