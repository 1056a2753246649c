// SPDX-License-Identifier: BSD-3-Clause
#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/comparison_requests.hpp"
#include "core/lineage/handshake.hpp"
#include "daemon/evidence.hpp"
#include "daemon/resolve_plan.hpp"
#include "memory_store.hpp"
#include "replicas.hpp"

using namespace mirror;
using namespace mirror::daemon;
using test::lineage_of;

namespace {

ReplicaSummary alpha(ReplicaState state = ReplicaState::up_to_date, Role role = Role::active) {
    return test::replica("alpha", role, state, lineage_of({3, 2, 1}));
}

ReplicaSummary beta(ReplicaState state = ReplicaState::up_to_date, Role role = Role::standby) {
    return test::replica("beta", role, state, lineage_of({4, 2, 1}));
}

ResolveCase keep_alpha() {
    ResolveCase facts;
    facts.volume = "r0";
    facts.keeper = alpha();
    facts.loser = beta();
    return facts;
}

}  // namespace

TEST_CASE("a split brain may be resolved whoever is active") {
    for (const Role keeper : {Role::active, Role::standby}) {
        for (const Role loser : {Role::active, Role::standby}) {
            ResolveCase facts = keep_alpha();
            facts.keeper.role = keeper;
            facts.loser.role = loser;
            CHECK(judge_resolution(facts));
        }
    }
}

TEST_CASE("what is not a split brain is not resolved") {
    ResolveCase facts = keep_alpha();
    SUBCASE("the loser is only behind") {
        facts.loser.lineage = lineage_of({2, 1});
    }
    SUBCASE("both have the same point of their history") {
        facts.loser.lineage = facts.keeper.lineage;
    }
    SUBCASE("another volume") {
        facts.loser.volume.bytes[0] = 9;
    }
    const auto judged = judge_resolution(facts);
    REQUIRE_FALSE(judged);
    CHECK(judged.error().kind == ErrorKind::refused);
    CHECK(judged.error().message.find("r0 has not diverged") == 0);
    CHECK(judged.error().remedy == "mirrorctl status r0");
}

TEST_CASE("a split brain in the middle of a resize can be resolved, too") {
    for (const bool keeper_is_larger : {false, true}) {
        ResolveCase facts = keep_alpha();
        (keeper_is_larger ? facts.keeper : facts.loser).size += 4096;
        CHECK(judge_resolution(facts));
    }
}

TEST_CASE("histories without anything in common can be resolved too") {
    ResolveCase facts = keep_alpha();
    facts.loser.lineage = lineage_of({9, 8});
    CHECK(judge_resolution(facts));
}

TEST_CASE("a decision that was taken is not taken again") {
    ResolveCase facts = keep_alpha();
    facts.loser.yields_to = test::generation_id(3);
    auto judged = judge_resolution(facts);
    REQUIRE_FALSE(judged);
    CHECK(judged.error().message ==
          "the split brain of r0 is already resolved: beta was given up in favour of alpha");
    facts.keeper.role = Role::standby;
    judged = judge_resolution(facts);
    REQUIRE_FALSE(judged);
    CHECK(judged.error().remedy == "on alpha: mirrorctl promote r0");
}

TEST_CASE("nothing is given up for a replica that can't be a source") {
    for (const ReplicaState state : {ReplicaState::inconsistent, ReplicaState::failed}) {
        ResolveCase facts = keep_alpha();
        facts.keeper.state = state;
        const auto judged = judge_resolution(facts);
        REQUIRE_FALSE(judged);
        CHECK(judged.error().remedy == "mirrorctl resolve r0 --keep beta");
    }
}

TEST_CASE("clients of the losing node are named, and cut off only when told") {
    ResolveCase facts = keep_alpha();
    facts.loser.role = Role::active;
    facts.clients = 2;
    CHECK(judge_resolution(facts));
    const auto judged = require_no_clients(facts);
    REQUIRE_FALSE(judged);
    CHECK(judged.error().kind == ErrorKind::busy);
    CHECK(judged.error().message.find("beta serves r0 to 2 client connections") == 0);
    CHECK(judged.error().remedy.find("--disconnect-clients") != std::string::npos);
    facts.disconnect_clients = true;
    CHECK(require_no_clients(facts));
}

TEST_CASE("an undo must fit, with room to spare for the metadata") {
    ResolvePlan plan;
    plan.undo_bytes = 10 * MiB;
    plan.free_bytes = 11 * MiB;
    CHECK(require_space(plan, "/state", "beta"));
    plan.free_bytes -= 1;
    const auto judged = require_space(plan, "/state", "beta");
    REQUIRE_FALSE(judged);
    CHECK(judged.error().kind == ErrorKind::no_space);
    CHECK(judged.error().message.find("/state of beta has 11") != std::string::npos);
    CHECK(judged.error().remedy.find("--no-undo") != std::string::npos);
}

TEST_CASE("blocks that differ are found by digest, in the regions that are asked for") {
    test::MemoryDisk one(4 * MiB - 4096);
    test::MemoryDisk other(4 * MiB - 4096);
    const auto here = one.open();
    const auto there = other.open();
    const std::vector<std::byte> block(4096, std::byte{7});
    for (const std::uint64_t number : {0U, 5U, 255U, 256U, 600U, 1022U}) {
        REQUIRE(there->write(block, number * 4096));
    }
    REQUIRE(here->write(block, 255 * 4096));
    const std::vector<std::uint64_t> regions{0, 3};
    const auto ask = control::ask_block_digests(random_id<SessionId>(), regions);
    const auto ours = control::answer_block_digests(ask, *here);
    const auto theirs = control::answer_block_digests(ask, *there);
    REQUIRE(ours);
    REQUIRE(theirs);
    Bitmap blocks(1023);
    REQUIRE(control::add_differing_blocks(*ours, *theirs, regions, blocks));
    CHECK(blocks.count() == 3);
    CHECK(blocks.test(0));
    CHECK(blocks.test(5));
    CHECK(blocks.test(1022));

    control::Json cut = *theirs;
    cut["digests"].erase(1);
    CHECK_FALSE(control::add_differing_blocks(*ours, cut, regions, blocks));
    CHECK_FALSE(control::answer_block_digests(
        control::ask_block_digests(random_id<SessionId>(), {4}), *here));
    CHECK_FALSE(control::answer_block_digests(
        control::ask_block_digests(random_id<SessionId>(), std::vector<std::uint64_t>(33, 0)),
        *here));
}

TEST_CASE("regions are handed over in pieces, and nonsense is refused") {
    Bitmap all(30001);
    for (std::uint64_t bit = 0; bit < all.size(); bit += 2) {
        all.set({bit, bit + 1});
    }
    Bitmap got(all.size());
    std::optional<std::uint64_t> from = 0;
    int answers = 0;
    while (from) {
        const auto answer = control::answer_differing_regions({{"from", *from}}, all);
        REQUIRE(answer);
        const auto next = control::add_regions(*answer, got);
        REQUIRE(next);
        from = *next;
        ++answers;
    }
    CHECK(answers == 2);
    CHECK(got.count() == all.count());
    for (const char* runs :
         {R"([[5, 4]])", R"([[0, 30002]])", R"([[1]])", R"([["a", 2]])", R"(7)"}) {
        CAPTURE(runs);
        CHECK_FALSE(control::add_regions({{"runs", control::Json::parse(runs)}}, got));
    }
}

TEST_CASE("the evidence has both sides, each with what it alone has") {
    VolumeConfig config;
    config.name = "r0";
    config.backing = {{"alpha", "/a"}, {"beta", "/b"}};
    VolumeFacts facts;
    facts.config = &config;
    facts.node = "alpha";
    facts.summary = alpha();
    facts.summary->changed_bytes = 8192;
    facts.last_write = WallTime(std::chrono::seconds(50));
    facts.peer.answer.emplace();
    facts.peer.answer->time = WallTime(std::chrono::seconds(103));
    facts.peer.last_seen = WallTime(std::chrono::seconds(100));
    PeerVolume& peer = facts.peer.answer->volumes["r0"];
    peer.summary = beta();
    peer.summary.changed_bytes = 4096;
    peer.role = Role::active;
    const StateWord diverged{"diverged", "because"};
    const Json evidence = split_brain_evidence(facts, diverged);
    REQUIRE(evidence.is_object());
    CHECK(evidence["ancestor"]["generation"] == to_string(test::generation_id(2)));
    CHECK(evidence["here"]["node"] == "alpha");
    CHECK(evidence["here"]["changed_bytes"] == 8192);
    CHECK(evidence["here"]["last_write_at"] == "1970-01-01T00:00:50.000Z");
    CHECK(evidence["here"]["lineage"].size() == 1);
    CHECK(evidence["there"]["role"] == "active");
    CHECK(evidence["there"]["changed_bytes"] == 4096);
    CHECK(evidence["there"]["last_write_at"].is_null());
    CHECK(evidence["clock_skew_seconds"] == 3.0);
    CHECK(split_brain_evidence(facts, {"broken", ""}).is_null());

    peer.summary.lineage = lineage_of({9, 8});
    const Json foreign = split_brain_evidence(facts, diverged);
    CHECK(foreign["ancestor"].is_null());
    CHECK(foreign["there"]["lineage"].size() == 2);
    peer.summary.lineage = lineage_of({2, 1});
    CHECK(split_brain_evidence(facts, diverged).is_null());
}
