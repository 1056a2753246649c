// SPDX-License-Identifier: BSD-3-Clause
#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "daemon/next_step.hpp"
#include "daemon/status.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

VolumeConfig config() {
    VolumeConfig config;
    config.name = "r0";
    config.size = 4096;
    config.backing = {{"alpha", "/a.img"}, {"beta", "/b.img"}};
    return config;
}

ReplicaSummary summary(const std::string& node, const Lineage& lineage) {
    ReplicaSummary summary;
    summary.node = node;
    summary.volume.bytes[0] = 1;
    summary.size = 4096;
    summary.state = ReplicaState::up_to_date;
    summary.lineage = lineage;
    return summary;
}

Lineage first_lineage() {
    Lineage lineage;
    lineage.begin(random_id<GenerationId>(), {}, "alpha", GenerationReason::created);
    return lineage;
}

Lineage went_on(Lineage lineage, const std::string& node) {
    lineage.begin(random_id<GenerationId>(), {}, node, GenerationReason::peer_lost);
    return lineage;
}

struct Scene {
    VolumeConfig volume = config();
    Lineage lineage = first_lineage();
    VolumeFacts facts;

    Scene() {
        facts.config = &volume;
        facts.node = "beta";
        facts.place = Place::standby;
        facts.summary = summary("beta", lineage);
        facts.now = WallTime(std::chrono::seconds(1000));
    }
    PeerVolume& peer(Role role) {
        facts.peer.reachable = true;
        facts.peer.answer.emplace();
        PeerVolume& peer = facts.peer.answer->volumes["r0"];
        peer.summary = summary("alpha", lineage);
        peer.summary.role = role;
        peer.role = role;
        return peer;
    }
    std::string word() const { return judge_state(facts).word; }
    Json json() const { return volume_status(facts, judge_state(facts), facts.now); }
};

}  // namespace

TEST_CASE("a volume that was never created is new") {
    Scene scene;
    scene.facts.place = Place::absent;
    scene.facts.summary.reset();
    CHECK(scene.word() == "new");
    CHECK(scene.json()["replica"]["state"] == "new");
    CHECK(scene.json()["size_bytes"] == 4096);
}

TEST_CASE("a standby that can't reach its active knows no figures") {
    Scene scene;
    scene.facts.peer.error = why_not_seen("alpha", {ErrorKind::unreachable, "connection refused"});
    const Json status = scene.json();
    CHECK(status["state"] == "peer-unknown");
    CHECK(status["rpo"]["seconds"].is_null());
    CHECK(status["rpo"]["bytes"].is_null());
    CHECK(status["peers"][0]["behind_bytes"].is_null());
    CHECK(status["peers"][0]["replica_state"] == "unknown");
    CHECK(status["peers"][0]["last_seen"].is_null());
    CHECK(status["why"].get<std::string>().find("alpha") != std::string::npos);
}

TEST_CASE("a standby in a session says whether it is in sync") {
    Scene scene;
    scene.peer(Role::active);
    scene.facts.session = Replica::SessionView{random_id<SessionId>(), "alpha", true, 2};
    CHECK(scene.word() == "resyncing");
    scene.facts.session->incomplete = "beta lacks 4 KiB";
    CHECK(scene.word() == "broken");
    CHECK(scene.json()["why"] == "beta lacks 4 KiB");
    scene.facts.session->incomplete.clear();
    scene.facts.session->resyncing = false;
    CHECK(scene.word() == "in-sync");
    CHECK(scene.json()["rpo"]["bytes"] == 0);
    CHECK(scene.json()["peers"][0]["link"] == "connected");
    scene.facts.session->connections = 0;
    CHECK(scene.word() == "broken");
}

TEST_CASE("two clean and equal standbys are in sync, others are not") {
    Scene scene;
    PeerVolume& peer = scene.peer(Role::standby);
    CHECK(scene.word() == "in-sync");
    peer.summary.unclean = true;
    CHECK(scene.word() == "broken");
    peer.summary.unclean = false;
    peer.summary.lineage = went_on(scene.lineage, "alpha");
    CHECK(scene.word() == "broken");
}

TEST_CASE("a split brain is seen whoever is active") {
    Scene scene;
    PeerVolume& peer = scene.peer(Role::standby);
    scene.facts.summary->lineage = went_on(scene.lineage, "beta");
    peer.summary.lineage = went_on(scene.lineage, "alpha");
    CHECK(scene.word() == "diverged");
    scene.facts.place = Place::active;
    scene.facts.summary->role = Role::active;
    scene.facts.engine = {{"mode", "alone"}, {"why", "alone"}};
    CHECK(scene.word() == "diverged");
}

TEST_CASE("what a broken standby lacks comes from the active") {
    Scene scene;
    PeerVolume& peer = scene.peer(Role::active);
    peer.engine_running = true;
    peer.summary.lineage = went_on(scene.lineage, "alpha");
    peer.summary.break_at = scene.facts.now - std::chrono::seconds(30);
    peer.behind_bytes = 8192;
    const Json status = scene.json();
    CHECK(status["state"] == "broken");
    CHECK(status["rpo"]["seconds"] == 30.0);
    CHECK(status["rpo"]["bytes"] == 8192);
}

TEST_CASE("an active takes mode and reason from its engine, and fails without one") {
    Scene scene;
    scene.facts.place = Place::active;
    scene.facts.engine = {{"mode", "syncing"},
                          {"why", "beta lacks 8 KiB."},
                          {"rpo_seconds", 3},
                          {"rpo_bytes", 8192},
                          {"peer", {{"link", "connected"}, {"behind_bytes", 8192}}}};
    Json status = scene.json();
    CHECK(status["state"] == "resyncing");
    CHECK(status["role"] == "active");
    CHECK(status["why"] == "beta lacks 8 KiB.");
    CHECK(status["rpo"]["bytes"] == 8192);
    CHECK(status["peers"][0]["link"] == "connected");
    scene.facts.engine = nullptr;
    scene.facts.failure = "the engine of r0 died";
    status = scene.json();
    CHECK(status["state"] == "failed");
    CHECK(status["why"] == "the engine of r0 died");
    CHECK(status["rpo"]["bytes"].is_null());
}

TEST_CASE("an active whose disk can't read what the standby lacks is broken, in session or not") {
    Scene scene;
    scene.facts.place = Place::active;
    scene.facts.engine = {
        {"mode", "incomplete"},
        {"why", "beta lacks 4 KiB."},
        {"peer",
         {{"link", "connected"}, {"behind_bytes", 4096}, {"incomplete", {{"bytes", 4096}}}}}};
    const Json status = scene.json();
    CHECK(status["state"] == "broken");
    CHECK(status["why"] == "beta lacks 4 KiB.");
    CHECK(status["peers"][0]["incomplete"]["bytes"] == 4096);
}

TEST_CASE("a peer that answered is not called unreachable, and one that did not is") {
    CHECK(why_not_seen("alpha", {ErrorKind::unreachable, "no route"}) ==
          "alpha can't be reached: no route");
    CHECK(why_not_seen("alpha", {ErrorKind::timed_out, "no answer"}) ==
          "alpha can't be reached: no answer");
    for (const ErrorKind kind : {ErrorKind::refused, ErrorKind::protocol, ErrorKind::invalid}) {
        CHECK(why_not_seen("alpha", {kind, "another version"}) ==
              "alpha answers, but can't be used: another version");
    }
}

TEST_CASE("a peer that answers without a replica says why, and where to go") {
    Scene scene;
    scene.peer(Role::standby);
    PeerAnswer& answer = *scene.facts.peer.answer;
    answer.node = "alpha";
    answer.volumes.clear();
    CHECK(judge_state(scene.facts).why == "alpha answers, but its config has no volume r0");
    answer.settings["r0"] = {};
    answer.unusable["r0"] = {.is_made = true, .why = "its disk is gone"};
    CHECK(judge_state(scene.facts).why ==
          "alpha answers, but has no usable replica of r0: its disk is gone");
    CHECK(judge_state(scene.facts).advice == "on alpha: mirrorctl status r0");
    answer.unusable["r0"].is_made = false;
    CHECK(judge_state(scene.facts).advice == "on alpha: mirrorctl create r0");
    scene.facts.place = Place::active;
    scene.facts.engine = {{"mode", "alone"}, {"why", "alone since noon"}};
    const StateWord state = judge_state(scene.facts);
    CHECK(state.word == "broken");
    CHECK(state.why.starts_with("alone since noon; alpha answers, but has no usable replica"));
    CHECK(scene.json()["advice"] == "on alpha: mirrorctl create r0");
    scene.facts.peer.reachable = false;
    CHECK(judge_state(scene.facts).why == "alone since noon");
}

TEST_CASE("who is sent to a disk was told that a disk failed") {
    Scene scene;
    scene.facts.place = Place::failed;
    scene.facts.summary.reset();
    scene.facts.failure = "it is the metadata of another node";
    CHECK(judge_state(scene.facts).advice == "the reason is in: mirrorctl events r0");
    scene.facts.advice = "name the node beta again";
    CHECK(judge_state(scene.facts).advice == "name the node beta again");
    scene.facts.place = Place::active;
    scene.facts.failure.clear();
    scene.facts.advice.clear();
    CHECK(judge_state(scene.facts).word == "failed");
    CHECK(judge_state(scene.facts).advice == "the reason is in: mirrorctl events r0");
}

TEST_CASE("every state but a healthy one has a next step") {
    Scene scene;
    for (const char* word :
         {"resyncing", "broken", "diverged", "peer-unknown", "failed", "new", "starting"}) {
        CAPTURE(word);
        CHECK_FALSE(next_step(scene.facts, {word, "why"}).empty());
    }
    CHECK(next_step(scene.facts, {"in-sync", "why"}).empty());
    CHECK(next_step(scene.facts, {"broken", "why", "mirrorctl connect r0"}) ==
          "mirrorctl connect r0");
}

TEST_CASE("of two nodes that are both standby the one is named that may be promoted") {
    Scene scene;
    PeerVolume& peer = scene.peer(Role::standby);
    peer.summary.unclean = true;
    peer.summary.last_active = true;
    CHECK(scene.json()["next"] == "mirrorctl promote r0 on alpha");
    peer.summary.unclean = false;
    peer.summary.lineage = went_on(scene.lineage, "alpha");
    CHECK(scene.json()["next"] == "mirrorctl promote r0 on alpha");
    peer.summary.lineage = scene.lineage;
    scene.facts.summary->unclean = true;
    CHECK(scene.json()["next"] == "mirrorctl promote r0");
    scene.facts.summary->state = ReplicaState::stale;
    peer.summary.state = ReplicaState::inconsistent;
    CHECK(scene.json()["next"].get<std::string>().find("--force --dry-run") != std::string::npos);
}

TEST_CASE("a standby that may be promoted alone is told so, and another one the price") {
    Scene scene;
    scene.facts.peer.error = why_not_seen("alpha", {ErrorKind::unreachable, "connection refused"});
    CHECK(scene.json()["next"].get<std::string>().find("promote r0 --force --dry-run") !=
          std::string::npos);
    scene.facts.summary->last_active = true;
    CHECK(scene.json()["next"].get<std::string>().starts_with("mirrorctl promote r0:"));
    scene.facts.peer.remedy = "put the same file of keys on both nodes";
    scene.facts.summary->last_active = false;
    CHECK(scene.json()["next"].get<std::string>().starts_with("put the same file of keys"));
}

TEST_CASE("an active that hears nothing of its standby does not know what would be lost") {
    Scene scene;
    scene.facts.place = Place::active;
    scene.facts.node = "alpha";
    scene.facts.summary = summary("alpha", scene.lineage);
    scene.facts.engine = {{"mode", "alone"},
                          {"why", "beta did not answer"},
                          {"rpo_seconds", 0},
                          {"rpo_bytes", 0},
                          {"peer", {{"link", "down"}, {"behind_bytes", 0}}}};
    CHECK(scene.json()["rpo"]["seconds"].is_null());
    CHECK(scene.json()["rpo"]["bytes"].is_null());
    scene.facts.engine["rpo_bytes"] = 4096;
    scene.facts.engine["rpo_seconds"] = 7;
    CHECK(scene.json()["rpo"]["bytes"] == 4096);
    scene.facts.engine["rpo_bytes"] = 0;
    PeerVolume& peer = scene.peer(Role::standby);  // its mirrord answers, and nothing is lacking
    peer.summary.node = "beta";
    CHECK(scene.json()["rpo"]["bytes"] == 0);
}

TEST_CASE("an engine's answer of odd types is survived") {
    Scene scene;
    scene.facts.place = Place::active;
    scene.facts.engine = {{"mode", 7}, {"why", nullptr}, {"peer", "x"}, {"since", 3}};
    CHECK(scene.word() == "broken");
    CHECK(scene.json()["peers"][0]["node"] == "alpha");
}
