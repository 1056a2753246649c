// SPDX-License-Identifier: BSD-3-Clause
#include "core/lineage/promotion.hpp"

#include <chrono>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "tests/unit/replicas.hpp"

using namespace mirror;
using namespace std::chrono_literals;
using test::lineage_of;
using test::replica;

namespace {

const Lineage old_data = lineage_of({2, 1});
const Lineage new_data = lineage_of({3, 2, 1});
const Lineage other_branch = lineage_of({4, 2, 1});

PromotionRequest request_with(ReplicaSummary ours, std::optional<ReplicaSummary> peer) {
    PromotionRequest request;
    request.ours = std::move(ours);
    request.peer = std::move(peer);
    request.peer_name = "beta";
    request.volume_name = "r0";
    return request;
}

ReplicaSummary alpha(ReplicaState state, const Lineage& lineage) {
    return replica("alpha", Role::standby, state, lineage);
}
ReplicaSummary beta(ReplicaState state, const Lineage& lineage) {
    return replica("beta", Role::standby, state, lineage);
}

PromotionVerdict judge_forced(PromotionRequest request) {
    request.force = true;
    return judge_promotion(request);
}

PromotionVerdict judge_fenced(PromotionRequest request) {
    request.fenced = true;
    return judge_promotion(request);
}

void check_refused(const PromotionVerdict& verdict, std::string_view reason,
                   std::string_view remedy) {
    CHECK(!verdict.allowed);
    CHECK(!verdict.new_generation);
    CHECK(!verdict.needs_agreement);
    CHECK(verdict.reason == reason);
    CHECK(verdict.remedy == remedy);
}

void check_new_generation(const PromotionVerdict& verdict, GenerationReason generation,
                          std::string_view reason, std::string_view loss) {
    CHECK(verdict.allowed);
    REQUIRE(verdict.new_generation);
    CHECK(*verdict.new_generation == generation);
    CHECK(verdict.reason == reason);
    CHECK(verdict.loss == loss);
    CHECK(verdict.remedy.empty());
}

}  // namespace

TEST_CASE("an active needs no promotion") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data), std::nullopt);
    request.ours.role = Role::active;
    check_refused(judge_promotion(request), "alpha is active already", "");
    check_refused(judge_forced(request), "alpha is active already", "");
}

TEST_CASE("a failed or new replica is never promoted") {
    auto request = request_with(alpha(ReplicaState::failed, old_data),
                                beta(ReplicaState::up_to_date, old_data));
    for (bool force : {false, true}) {
        request.force = force;
        check_refused(judge_promotion(request), "the disk under the replica of alpha has failed",
                      "on beta: mirrorctl promote r0");
    }
    request.ours.state = ReplicaState::fresh;
    check_refused(judge_forced(request), "the replica of alpha is new and has never been filled",
                  "on beta: mirrorctl promote r0");
    request.peer.reset();
    check_refused(judge_forced(request), "the replica of alpha is new and has never been filled",
                  "make beta reachable, then on beta: mirrorctl promote r0");
    request.peer = beta(ReplicaState::failed, old_data);
    check_refused(
        judge_fenced(request),
        "the replica of alpha is new and has never been filled, and the replica of beta is "
        "failed",
        "mirrorctl create r0 on one of them, then restore a backup");
}

TEST_CASE("never beside an active peer, also with --force") {
    auto request = request_with(alpha(ReplicaState::up_to_date, new_data),
                                beta(ReplicaState::up_to_date, old_data));
    request.peer->role = Role::active;
    const char* remedy = "mirrorctl switch r0 --to alpha (or on beta: mirrorctl demote r0)";
    check_refused(judge_promotion(request), "beta is active", remedy);
    // A node that was taken over may say so for ever: who insists is told the way out.
    const std::string way_out =
        "; if beta can't be trusted any more, cut it off first: mirrord(8), A NODE THAT WAS TAKEN "
        "OVER";
    check_refused(judge_forced(request), "beta is active", remedy + way_out);
    check_refused(judge_fenced(request), "beta is active", remedy + way_out);
}

TEST_CASE("beside a standby with the same data the lineage goes on") {
    const auto request = request_with(alpha(ReplicaState::up_to_date, old_data),
                                      beta(ReplicaState::up_to_date, old_data));
    const PromotionVerdict verdict = judge_promotion(request);
    CHECK(verdict.allowed);
    CHECK(!verdict.new_generation);
    CHECK(verdict.needs_agreement);
    CHECK(verdict.reason == "alpha is up to date and beta is reachable as a standby");
    CHECK(verdict.loss.empty());
    CHECK(!judge_forced(request).new_generation);
}

TEST_CASE("the peer must agree unless nobody but us could be promoted alone") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data),
                                beta(ReplicaState::up_to_date, old_data));
    for (bool ours : {false, true}) {
        for (bool theirs : {false, true}) {
            request.ours.last_active = ours;
            request.peer->last_active = theirs;
            CHECK(judge_promotion(request).needs_agreement == (!ours || theirs));
        }
    }
}

TEST_CASE("a crashed former active agrees, and the lineage goes on") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data),
                                beta(ReplicaState::up_to_date, old_data));
    request.peer->unclean = true;
    request.peer->last_active = true;
    const PromotionVerdict verdict = judge_promotion(request);
    CHECK(verdict.allowed);
    CHECK(verdict.needs_agreement);
    CHECK(!verdict.new_generation);
    CHECK(verdict.reason ==
          "beta was active and did not end cleanly; alpha has every acknowledged write");
}

TEST_CASE("a peer that is older, new or failed does not stand in the way") {
    for (ReplicaState state : {ReplicaState::fresh, ReplicaState::failed,
                               ReplicaState::inconsistent, ReplicaState::stale}) {
        const Lineage lineage = state == ReplicaState::fresh ? Lineage{} : old_data;
        const PromotionVerdict verdict = judge_promotion(
            request_with(alpha(ReplicaState::up_to_date, new_data), beta(state, lineage)));
        CHECK(verdict.allowed);
        CHECK(!verdict.new_generation);
        CHECK(verdict.loss.empty());
    }
}

TEST_CASE("a replica that the peer has gone beyond") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data),
                                beta(ReplicaState::up_to_date, new_data));
    request.peer->changed_bytes = 3 * MiB;
    const char* reason = "beta has newer data than alpha";
    check_refused(
        judge_promotion(request), reason,
        "on beta: mirrorctl promote r0; then, when the resync has ended, mirrorctl switch r0 --to "
        "alpha, or --force with this loss: up to 3 MiB that beta has and alpha lacks");
    const PromotionVerdict forced = judge_forced(request);
    check_new_generation(forced, GenerationReason::forced_promotion,
                         std::string("forced, although ") + reason,
                         "up to 3 MiB that beta has and alpha lacks");
    CHECK(forced.needs_agreement);

    request.peer->changed_bytes = 0;
    CHECK(judge_forced(request).loss == "an unknown amount of data that beta has and alpha lacks");

    request.peer->state = ReplicaState::failed;
    CHECK(judge_promotion(request).remedy ==
          "--force, with this loss: an unknown amount of data that beta has and alpha lacks");
}

TEST_CASE("a stale replica") {
    auto request =
        request_with(alpha(ReplicaState::stale, old_data), beta(ReplicaState::stale, old_data));
    request.ours.break_at = WallTime{1s};
    const char* reason =
        "the replica of alpha is stale: beta is known to have continued without it";
    const char* loss =
        "the writes of beta since the mirror broke at 1970-01-01T00:00:01.000Z are not on alpha";
    check_refused(judge_promotion(request), reason,
                  std::string("on beta: mirrorctl promote r0, or --force with this loss: ") + loss);
    check_new_generation(judge_forced(request), GenerationReason::forced_promotion,
                         std::string("forced, although ") + reason, loss);

    request.peer.reset();
    request.ours.last_active = true;
    check_refused(judge_fenced(request), std::string(reason) + "; --fenced does not change this",
                  std::string("make beta reachable, then on beta: mirrorctl promote r0, or --force "
                              "with this loss: ") +
                      loss);
    CHECK(judge_forced(request).allowed);
}

TEST_CASE("a half-overwritten replica") {
    auto request = request_with(alpha(ReplicaState::inconsistent, old_data),
                                beta(ReplicaState::up_to_date, new_data));
    const char* reason = "the replica of alpha is half overwritten by a resync that has not ended";
    const std::string loss =
        "the replica of alpha is a mixture of old and new blocks that no disk ever held: the "
        "filesystem on it may be damaged, and files that beta has whole may be lost";
    const PromotionVerdict refused = judge_promotion(request);
    CHECK(!refused.allowed);
    CHECK(refused.reason == reason);
    check_new_generation(judge_forced(request), GenerationReason::forced_promotion,
                         std::string("forced, although ") + reason,
                         loss + "; an unknown amount of data that beta has and alpha lacks");

    request.peer.reset();
    CHECK(!judge_promotion(request).allowed);
    CHECK(!judge_fenced(request).allowed);
    check_new_generation(judge_forced(request), GenerationReason::forced_promotion,
                         std::string("forced, although ") + reason, loss);
}

TEST_CASE("a replica that has all but what its source could not read names that as the loss") {
    auto request = request_with(alpha(ReplicaState::inconsistent, old_data),
                                beta(ReplicaState::up_to_date, old_data));
    request.ours.lacking_bytes = 8 * KiB;
    const char* reason = "the replica of alpha lacks 8 KiB that beta could not read for it";
    const std::string loss =
        "up to 8 KiB are old or missing on alpha, in the files that use these ranges (see "
        "resync-incomplete in mirrorctl events r0)";
    CHECK(!judge_promotion(request).allowed);
    CHECK(judge_promotion(request).reason == reason);
    CHECK(!judge_fenced(request).allowed);
    check_new_generation(judge_forced(request), GenerationReason::forced_promotion,
                         std::string("forced, although ") + reason, loss);

    request.peer.reset();
    CHECK(!judge_promotion(request).allowed);
    check_new_generation(
        judge_forced(request), GenerationReason::forced_promotion,
        std::string("forced, although ") + reason,
        loss +
            "; apart from these, every acknowledged write is on alpha, unless beta continued "
            "without it: then every write that beta accepted alone is lost");
}

TEST_CASE("a diverged replica") {
    auto request = request_with(alpha(ReplicaState::up_to_date, new_data),
                                beta(ReplicaState::up_to_date, other_branch));
    request.peer->changed_bytes = 4 * KiB;
    const char* reason = "alpha and beta have diverged: each has writes that the other lacks";
    const char* loss =
        "up to 4 KiB of writes that beta accepted without alpha are not here, and keeping alpha "
        "discards them";
    check_refused(
        judge_promotion(request), reason,
        std::string("mirrorctl resolve r0 --keep NODE, or --force with this loss: ") + loss);
    check_new_generation(judge_forced(request), GenerationReason::forced_promotion,
                         std::string("forced, although ") + reason, loss);
}

TEST_CASE("a replica that was given up") {
    auto request = request_with(alpha(ReplicaState::stale, new_data),
                                beta(ReplicaState::up_to_date, other_branch));
    request.ours.yields_to = other_branch.current();
    const PromotionVerdict refused = judge_promotion(request);
    CHECK_FALSE(refused.allowed);
    CHECK(refused.reason ==
          "the data of alpha was given up in favour of that of beta (mirrorctl resolve)");
    CHECK(refused.remedy.find("on beta: mirrorctl promote r0") == 0);
    CHECK(judge_forced(request).allowed);
    // The one that was kept is promoted without ado.
    auto kept = request_with(alpha(ReplicaState::up_to_date, new_data),
                             beta(ReplicaState::stale, other_branch));
    kept.peer->yields_to = new_data.current();
    const PromotionVerdict verdict = judge_promotion(kept);
    CHECK(verdict.allowed);
    CHECK_FALSE(verdict.new_generation.has_value());
}

TEST_CASE("after half a resize the smaller replica is promoted, the larger one only by force") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data),
                                beta(ReplicaState::up_to_date, old_data));
    request.peer->size = 4096;
    const PromotionVerdict refused = judge_promotion(request);
    CHECK_FALSE(refused.allowed);
    CHECK(refused.reason ==
          "alpha has 1073741824 bytes and beta has only 4096: a resize was cut short");
    CHECK(refused.remedy.find("while beta is active: mirrorctl resize r0, or --force") == 0);
    CHECK(judge_forced(request).allowed);
    request.peer->size = std::uint64_t{2} << 30;
    const PromotionVerdict allowed = judge_promotion(request);
    CHECK(allowed.allowed);
    CHECK(!allowed.new_generation);
}

TEST_CASE("a peer of another volume") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data),
                                beta(ReplicaState::up_to_date, old_data));
    request.peer->volume.bytes[0] = 8;
    CHECK(judge_forced(request).reason ==
          "alpha and beta hold different volumes (07000000 and 08000000)");
}

TEST_CASE("out of the peer's reach, only the node that was last active goes on alone") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data), std::nullopt);
    request.ours.last_active = true;
    const PromotionVerdict alone = judge_promotion(request);
    CHECK(alone.allowed);
    CHECK(!alone.new_generation);
    CHECK(!alone.needs_agreement);
    CHECK(alone.reason ==
          "beta can't be reached, but alpha was the last active node and has not handed over");

    request.ours.last_active = false;
    check_refused(judge_promotion(request),
                  "beta can't be reached and may be active: alpha was not active last",
                  "make beta reachable, or pass --fenced when a cluster manager has confirmed that "
                  "beta is down, or --force to continue without it (if it is still running, this "
                  "creates a split brain)");
}

TEST_CASE("a peer that answers without a summary is called what it is") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data), std::nullopt);
    request.peer_absence = "beta answers, but has no usable replica of r0";
    request.peer_remedy = "on beta: mirrorctl create r0";
    request.peer_has_no_replica = true;
    check_refused(judge_promotion(request),
                  "beta answers, but has no usable replica of r0 and may have continued alone "
                  "before: alpha was not active last",
                  "on beta: mirrorctl create r0, or pass --fenced when a cluster manager has "
                  "confirmed that beta is down, or --force to continue without it (if it is still "
                  "running, this creates a split brain)");
    request.ours.last_active = true;
    CHECK(judge_promotion(request).reason ==
          "beta answers, but has no usable replica of r0, but alpha was the last active node and "
          "has not handed over");
    request.peer_absence = "beta answers, but can't be used: another protocol";
    request.peer_remedy.clear();
    request.peer_has_no_replica = false;
    request.ours.last_active = false;
    const PromotionVerdict refused = judge_promotion(request);
    CHECK(refused.reason.find("another protocol and may be active") != std::string::npos);
    CHECK(refused.remedy.starts_with("correct that, or pass"));
}

TEST_CASE("a confirmed fence or --force lets the other node go on, in a generation of its own") {
    auto request = request_with(alpha(ReplicaState::up_to_date, old_data), std::nullopt);
    check_new_generation(judge_fenced(request), GenerationReason::fenced_promotion,
                         "alpha is up to date, and beta is confirmed to be down",
                         "every acknowledged write is on alpha, unless beta continued without it: "
                         "then every write that beta accepted alone is lost");
    request.ours.last_update = WallTime{1s};  // of the metadata: no write
    request.last_write = WallTime{2s};
    check_new_generation(judge_forced(request), GenerationReason::forced_promotion,
                         "forced, although beta can't be reached and may be active",
                         "every acknowledged write is on alpha (the last write came at "
                         "1970-01-01T00:00:02.000Z), unless beta continued without it: then every "
                         "write that beta accepted alone is lost");
    request.ours.break_at = WallTime{3s};
    CHECK(judge_forced(request).loss ==
          "alpha lost contact with beta at 1970-01-01T00:00:03.000Z: every write that beta "
          "accepted alone after that is lost");
}

TEST_CASE("every refusal but that of an active names what would be accepted") {
    for (const Lineage& theirs : {Lineage{}, old_data, new_data, other_branch}) {
        for (int ours_state = 0; ours_state <= 4; ++ours_state) {
            for (int their_state = 0; their_state <= 4; ++their_state) {
                for (unsigned flags = 0; flags < 16; ++flags) {
                    auto request =
                        request_with(alpha(static_cast<ReplicaState>(ours_state), new_data),
                                     beta(static_cast<ReplicaState>(their_state), theirs));
                    request.force = (flags & 1U) != 0;
                    request.fenced = (flags & 2U) != 0;
                    request.ours.last_active = (flags & 4U) != 0;
                    if ((flags & 8U) != 0) {
                        request.peer.reset();
                    }
                    const PromotionVerdict verdict = judge_promotion(request);
                    CHECK(!verdict.reason.empty());
                    CHECK(verdict.allowed == verdict.remedy.empty());
                    CHECK((!verdict.new_generation || !verdict.loss.empty()));
                    CHECK((!verdict.needs_agreement || request.peer.has_value()));
                }
            }
        }
    }
}

TEST_CASE("an engine is not started again beside a peer that took over") {
    ReplicaSummary ours = alpha(ReplicaState::up_to_date, old_data);
    ours.last_active = true;
    const auto reason = [&](const ReplicaSummary& theirs) {
        return why_not_resume(ours, theirs).value_or("");
    };
    ReplicaSummary theirs = beta(ReplicaState::up_to_date, old_data);
    CHECK(reason(theirs).empty());
    theirs.last_active = true;
    CHECK(reason(theirs).empty());
    ours.last_active = false;
    CHECK(reason(theirs) == "beta was active after alpha");
    theirs.role = Role::active;
    CHECK(reason(theirs) == "beta is active");
    CHECK(reason(beta(ReplicaState::up_to_date, new_data)) ==
          "beta has continued from the data of alpha");
    CHECK(reason(beta(ReplicaState::stale, lineage_of({1}))).empty());
}

TEST_CASE(
    "an engine is not started again on data that have diverged, unless the peer gave its up") {
    const ReplicaSummary ours = alpha(ReplicaState::up_to_date, new_data);
    ReplicaSummary theirs = beta(ReplicaState::up_to_date, other_branch);
    CHECK(why_not_resume(ours, theirs) == "beta has continued from the data of alpha");
    theirs.yields_to = new_data.current();
    CHECK_FALSE(why_not_resume(ours, theirs));
    theirs.yields_to = test::generation_id(99);  // to somebody else
    CHECK(why_not_resume(ours, theirs));
}

TEST_CASE(
    "an engine is not started again beside a mixture that was forced, but beside a new replica") {
    const ReplicaSummary ours = alpha(ReplicaState::up_to_date, old_data);
    CHECK(why_not_resume(ours, beta(ReplicaState::up_to_date, lineage_of({9}))) ==
          "beta was promoted by force with other data than those of alpha");
    CHECK_FALSE(why_not_resume(ours, beta(ReplicaState::fresh, lineage_of({9}))));
    ReplicaSummary stranger = beta(ReplicaState::up_to_date, lineage_of({9}));
    stranger.volume = random_id<VolumeId>();
    CHECK_FALSE(why_not_resume(ours, stranger));
}

TEST_CASE("no engine serves from a replica that was left out, or whose peer may be promoted") {
    ReplicaSummary ours;
    ours.node = "alpha";
    ours.state = ReplicaState::up_to_date;
    ours.last_active = true;
    CHECK_FALSE(why_not_serve(ours, "beta"));
    ours.last_active = false;
    CHECK(why_not_serve(ours, "beta"));
    ours.last_active = true;
    ours.state = ReplicaState::failed;
    CHECK(why_not_serve(ours, "beta"));
}
