// SPDX-License-Identifier: BSD-3-Clause
#include "core/lineage/relation.hpp"

#include <string>

#include <doctest/doctest.h>

#include "core/lineage/handshake.hpp"
#include "core/lineage/promotion.hpp"
#include "core/meta/transitions.hpp"
#include "replicas.hpp"

using namespace mirror;
using test::generation_id;

namespace {

VolumeId some_volume() {
    VolumeId id;
    id.bytes[0] = 1;
    return id;
}

SessionId session_id(std::uint8_t number) {
    SessionId id;
    id.bytes[0] = number;
    return id;
}

/// Two nodes in one session, in sync at step 10. Only the superblocks: the data are beside the
/// point here.
struct Nodes {
    Nodes() {
        for (Superblock* block : {&alpha, &beta}) {
            block->volume = some_volume();
            block->size = 1 << 20;
            block->state = ReplicaState::up_to_date;
            block->lineage.begin(generation_id(1), {}, "alpha", GenerationReason::created);
            block->session = session_id(1);
            block->steps = {.taken = 10, .content = 10, .maps_from = 9};
        }
        alpha.node = "alpha";
        alpha.role = Role::active;
        alpha.last_active = true;
        beta.node = "beta";
        beta.steps.maps_from = 10;
    }

    /// One step, whole.
    void raise() {
        const std::uint64_t step = offer_step(alpha, beta.steps.newest());
        take_step(beta, step);
        step_taken(alpha, step);
    }
    void alpha_crashes() {
        alpha.unclean = true;
        settle(alpha);
    }

    Superblock alpha;
    Superblock beta;
};

ReplicaSummary of(const Superblock& block) {
    return summarize(block, 0, 0);
}

PromotionVerdict judge(const Superblock& ours, const Superblock& peer, bool force = false) {
    PromotionRequest request;
    request.ours = of(ours);
    request.peer = of(peer);
    request.peer_name = peer.node;
    request.force = force;
    request.volume_name = "r0";
    return judge_promotion(request);
}

void begin_session(Superblock& active, Superblock& standby, std::uint8_t number) {
    const std::uint64_t step = offer_step(active, standby.steps.newest());
    join_session(standby, session_id(number), step);
    active.session = session_id(number);
    step_taken(active, step);
}

}  // namespace

TEST_CASE("an active that died between two parts of a step was not put back") {
    Nodes nodes;
    const std::uint64_t step = offer_step(nodes.alpha, nodes.beta.steps.newest());
    SUBCASE("before the standby took it") {}
    SUBCASE("after") {
        take_step(nodes.beta, step);
    }
    nodes.alpha_crashes();
    CHECK(relate(of(nodes.alpha), of(nodes.beta)) == Relation::equal);
    CHECK(judge(nodes.alpha, nodes.beta).allowed);
    CHECK(judge(nodes.beta, nodes.alpha).allowed);
    nodes.beta.role = Role::active;
    CHECK(decide(of(nodes.beta), of(nodes.alpha)).action == Action::resync_to_peer);
}

TEST_CASE("the former active that was put back is behind, is not promoted, is no source") {
    Nodes nodes;
    const Superblock image = nodes.alpha;
    nodes.raise();
    SUBCASE("within the session") {}
    SUBCASE("with another session in between") {
        begin_session(nodes.alpha, nodes.beta, 2);
    }
    nodes.alpha = image;

    CHECK(why_not_resume(of(nodes.alpha), of(nodes.beta)));
    CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::peer_is_newer);
    nodes.alpha_crashes();
    const PromotionVerdict verdict = judge(nodes.alpha, nodes.beta);
    CHECK_FALSE(verdict.allowed);
    CHECK(verdict.reason.find("alpha was restored to an older state") != std::string::npos);
    CHECK(verdict.remedy.find("on beta: mirrorctl promote r0") != std::string::npos);

    REQUIRE(judge(nodes.beta, nodes.alpha).allowed);
    nodes.beta.role = Role::active;
    CHECK(decide(of(nodes.beta), of(nodes.alpha)).action == Action::full_to_peer);
}

TEST_CASE("a promotion by force of one that was put back names the loss and overwrites nothing") {
    Nodes nodes;
    const Superblock image = nodes.alpha;
    nodes.raise();
    nodes.alpha = image;
    nodes.alpha_crashes();
    const PromotionVerdict verdict = judge(nodes.alpha, nodes.beta, true);
    REQUIRE(verdict.allowed);
    CHECK(verdict.loss.find("everything written since") != std::string::npos);
    take_over(nodes.alpha, verdict, generation_id(2), {}, "alpha");
    CHECK(relate(of(nodes.alpha), of(nodes.beta)) == Relation::diverged);
    CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::diverged);
    // Once a person has decided, no map says what differs: neither knew the other one's writes.
    CHECK_FALSE(maps_speak_of(of(nodes.alpha), of(nodes.beta)));
}

TEST_CASE("one that was put back and went on alone has diverged from what it forgot") {
    Nodes nodes;
    const Superblock image = nodes.alpha;
    nodes.raise();
    nodes.alpha = image;
    go_alone(nodes.alpha, generation_id(2), {}, {}, "alpha");
    CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::diverged);
    CHECK_FALSE(judge(nodes.beta, nodes.alpha).allowed);
    // Whoever is kept: the maps of neither name what was settled between the two states.
    CHECK_FALSE(maps_speak_of(of(nodes.beta), of(nodes.alpha)));
    CHECK_FALSE(maps_speak_of(of(nodes.alpha), of(nodes.beta)));
}

TEST_CASE("a standby that was put back is compared as a whole, and not promoted") {
    Nodes nodes;
    const Superblock image = nodes.beta;
    nodes.raise();
    nodes.alpha.steps.maps_from = nodes.alpha.steps.taken;  // as a checkpoint that clears all
    nodes.beta = image;
    CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::full_to_peer);
    nodes.alpha_crashes();
    CHECK_FALSE(judge(nodes.beta, nodes.alpha).allowed);
    CHECK(judge(nodes.alpha, nodes.beta).allowed);
}

TEST_CASE("a standby that was put back and forced has diverged from the active that it left") {
    Nodes nodes;
    const Superblock image = nodes.beta;
    nodes.raise();
    nodes.beta = image;
    PromotionVerdict forced;
    forced.new_generation = GenerationReason::forced_promotion;
    take_over(nodes.beta, forced, generation_id(2), {}, "beta");
    nodes.alpha_crashes();
    CHECK(decide(of(nodes.beta), of(nodes.alpha)).action == Action::diverged);
}

TEST_CASE("in a split brain without older copies the maps of both name what differs") {
    Nodes nodes;
    PromotionVerdict forced;
    forced.new_generation = GenerationReason::forced_promotion;
    take_over(nodes.beta, forced, generation_id(2), {}, "beta");
    go_alone(nodes.alpha, generation_id(3), {}, {}, "alpha");
    CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::diverged);
    CHECK(maps_speak_of(of(nodes.alpha), of(nodes.beta)));
    CHECK(maps_speak_of(of(nodes.beta), of(nodes.alpha)));
}

TEST_CASE("a standby that was not put back is forced: its former active is behind") {
    Nodes nodes;
    nodes.raise();
    SUBCASE("at rest") {}
    SUBCASE("with a step on its way") {
        (void)offer_step(nodes.alpha, 0);
    }
    PromotionVerdict forced;
    forced.new_generation = GenerationReason::forced_promotion;
    take_over(nodes.beta, forced, generation_id(2), {}, "beta");
    nodes.alpha_crashes();
    CHECK(decide(of(nodes.beta), of(nodes.alpha)).action == Action::resync_to_peer);
}

TEST_CASE("a standby in the middle of a resync is not taken for one that went on") {
    Nodes nodes;
    go_alone(nodes.alpha, generation_id(2), {}, {}, "alpha");
    begin_session(nodes.alpha, nodes.beta, 2);
    nodes.beta.state = ReplicaState::inconsistent;
    CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::resync_to_peer);
    SUBCASE("an active that was put back to before is no source, until a person decides") {
        const std::uint64_t known = nodes.alpha.steps.taken;
        nodes.alpha.steps = {.taken = known - 1, .content = known - 1, .maps_from = 9};
        CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::peer_is_newer);
        nodes.alpha_crashes();
        const PromotionVerdict verdict = judge(nodes.alpha, nodes.beta, true);
        REQUIRE(verdict.allowed);
        take_over(nodes.alpha, verdict, generation_id(3), {}, "alpha");
        CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::full_to_peer);
    }
}

TEST_CASE("replicas of which no session knew steps are judged by their generations alone") {
    Nodes nodes;
    nodes.alpha.steps = nodes.beta.steps = {};
    CHECK(relate(of(nodes.alpha), of(nodes.beta)) == Relation::equal);
    CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::resync_to_peer);
    go_alone(nodes.alpha, generation_id(2), {}, {}, "alpha");
    CHECK(decide(of(nodes.alpha), of(nodes.beta)).action == Action::resync_to_peer);
}
