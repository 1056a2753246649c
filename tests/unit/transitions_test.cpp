// SPDX-License-Identifier: BSD-3-Clause
// What a change of role or of company means for a superblock, one rule at a time.
#include "core/meta/transitions.hpp"

#include <chrono>
#include <utility>

#include <doctest/doctest.h>

#include "replicas.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

constexpr WallTime now{std::chrono::seconds(100)};

Superblock standby(ReplicaState state, Lineage lineage) {
    Superblock block;
    block.node = "alpha";
    block.state = state;
    block.lineage = std::move(lineage);
    return block;
}

}  // namespace

TEST_CASE("a standby is stale only by what was judged of the lineage that it has now") {
    const Lineage judged = lineage_of({1});
    Superblock block = standby(ReplicaState::up_to_date, judged);
    become_stale(block, judged, now);
    CHECK(block.state == ReplicaState::stale);
    CHECK(block.break_at == now);
    // A session that began meanwhile has brought it further than whoever judged knew.
    Superblock further = standby(ReplicaState::up_to_date, lineage_of({2, 1}));
    become_stale(further, judged, now);
    CHECK(further.state == ReplicaState::up_to_date);
    CHECK(further.break_at == WallTime{});
    for (const ReplicaState state :
         {ReplicaState::fresh, ReplicaState::inconsistent, ReplicaState::failed}) {
        Superblock other = standby(state, judged);
        become_stale(other, judged, now);
        CHECK(other.state == state);
    }
}

TEST_CASE("a promotion takes the token, and takes back what was given up or is missing") {
    Superblock block = standby(ReplicaState::inconsistent, lineage_of({1}));
    block.yields_to = generation_id(7);
    block.lacking_bytes = 4096;
    PromotionVerdict verdict;
    verdict.allowed = true;
    SUBCASE("with a new generation: from now on this is what the volume is") {
        verdict.new_generation = GenerationReason::forced_promotion;
        take_over(block, verdict, generation_id(2), now, "alpha");
        CHECK(block.lineage.current() == generation_id(2));
        CHECK(block.lineage.contains(generation_id(1)));
        CHECK(block.lineage.entries().front().reason == GenerationReason::forced_promotion);
        CHECK(block.state == ReplicaState::up_to_date);
        CHECK(block.solo);
        CHECK(block.break_at == now);
    }
    SUBCASE("in agreement with the peer: the same lineage goes on") {
        block.state = ReplicaState::up_to_date;
        take_over(block, verdict, generation_id(2), now, "alpha");
        CHECK(block.lineage == lineage_of({1}));
        CHECK_FALSE(block.solo);
    }
    CHECK(block.role == Role::active);
    CHECK(block.last_active);
    CHECK(block.yields_to.is_none());
    CHECK(block.lacking_bytes == 0);
}

TEST_CASE("going on alone begins a generation that descends from what both had") {
    Superblock block = standby(ReplicaState::up_to_date, lineage_of({1}));
    const WallTime broken = now - std::chrono::seconds(5);
    go_alone(block, generation_id(2), now, broken, "alpha");
    CHECK(block.solo);
    CHECK(block.lineage.current() == generation_id(2));
    CHECK(block.lineage.entries().front().parent == generation_id(1));
    CHECK(block.lineage.entries().front().reason == GenerationReason::peer_lost);
    CHECK(block.break_at == broken);
    CHECK(block.last_update == now);
}

TEST_CASE("an offer that the peer may have taken becomes ours, and never undoes what came since") {
    Superblock block = standby(ReplicaState::up_to_date, lineage_of({1}));
    take_offer(block, lineage_of({2, 1}));
    CHECK(block.lineage == lineage_of({2, 1}));
    block.lineage = lineage_of({3, 2, 1});
    take_offer(block, lineage_of({2, 1}));
    CHECK(block.lineage == lineage_of({3, 2, 1}));
}

TEST_CASE(
    "only an engine that ended in good order is clean, and the token stays until it is given") {
    Superblock block = standby(ReplicaState::up_to_date, lineage_of({1}));
    block.role = Role::active;
    block.last_active = true;
    begin_to_serve(block);
    CHECK(block.unclean);
    SUBCASE("in good order") {
        end_serving(block, now);
        CHECK_FALSE(block.unclean);
        CHECK(block.last_update == now);
    }
    SUBCASE("its engine is gone") {
        settle(block);
        CHECK(block.unclean);
    }
    CHECK(block.role == Role::standby);
    CHECK(block.last_active);
    resume(block);
    CHECK(block.role == Role::active);
    give_up_token(block);
    CHECK_FALSE(block.last_active);
}
