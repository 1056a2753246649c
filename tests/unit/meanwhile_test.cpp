// SPDX-License-Identifier: BSD-3-Clause
// What changes while a verb of mirrord asks the other node, waits, or has its engine started: what
// it knew before is looked at again.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include <doctest/doctest.h>

#include "core/control/comparison_requests.hpp"
#include "core/meta/transitions.hpp"
#include "core/store/identity.hpp"
#include "daemon/boot.hpp"
#include "daemon/demote.hpp"
#include "daemon/promote.hpp"
#include "daemon/replace.hpp"
#include "daemon/replica_comparison.hpp"
#include "daemon/switch.hpp"
#include "eventually.hpp"
#include "two_nodes.hpp"

using namespace mirror;
using namespace mirror::daemon;
using namespace mirror::test;
using namespace std::chrono_literals;

namespace {

using Instead = std::optional<Result<Json>>;

bool is_question(const Json& request, const char* name) {
    return request.value("request", "") == name;
}

/// It was carried out, or not: the answer does not come.
Instead lost() {
    return fail(ErrorKind::unreachable, "the connection was closed");
}

/// The status of a node as it is, but for the volume's role.
Json with_role(Result<Json> status, const char* role) {
    REQUIRE(status);
    (*status)["volumes"]["r0"]["role"] = role;
    return std::move(*status);
}

void update(VolumeKeeper& keeper, const std::function<void(Superblock&)>& change) {
    const auto lease = keeper.replica();
    REQUIRE(lease);
    REQUIRE((*lease)->update(change));
}

/// Active, with an engine that died and does not start again.
void make_dead_active(Node& node) {
    REQUIRE(write_active_mark(node.r0().paths().marker, boot_id(), false));
}

}  // namespace

TEST_CASE("a replica that a session filled while its replacement asked for a source is kept") {
    TwoNodes nodes;
    nodes.alphas.state = ReplicaState::failed;
    nodes.start();
    nodes.beta.on_question([&](const Json& request, const nbd::Client&) -> Instead {
        if (is_question(request, "peer-status")) {
            update(nodes.alpha.r0(), [](Superblock& block) {
                block.state = ReplicaState::up_to_date;
                block.media_errors = 77;
            });
        }
        return std::nullopt;
    });
    const auto replaced = replace_replica(nodes.alpha.r0(), false, ReplicaFiles::Access::as_it_is);
    REQUIRE_FALSE(replaced);
    CHECK(replaced.error().kind == ErrorKind::refused);
    CHECK(nodes.alpha.superblock().state == ReplicaState::up_to_date);
    CHECK(nodes.alpha.superblock().media_errors == 77);
    CHECK(nodes.alpha.r0().place() == Place::standby);
}

TEST_CASE("a replica that is still of no worth is replaced") {
    TwoNodes nodes;
    nodes.alphas.state = ReplicaState::failed;
    nodes.start();
    const auto replaced = replace_replica(nodes.alpha.r0(), false, ReplicaFiles::Access::as_it_is);
    REQUIRE_MESSAGE(replaced, (replaced ? "" : replaced.error().text()));
    CHECK(nodes.alpha.superblock().state == ReplicaState::fresh);
}

TEST_CASE("what an engine did before it was given up is no part of what a promotion takes back") {
    TwoNodes nodes;
    nodes.start();
    nodes.beta.on_question([](const Json&, const nbd::Client&) { return lost(); });
    // It serves for a moment: alone, with a generation for what it answered.
    Superblock served = nodes.alphas;
    served.role = Role::active;
    begin_to_serve(served);
    go_alone(served, random_id<GenerationId>(), {}, {}, "alpha");
    const TempDir aside;
    const std::string image = aside.file("meta");
    const std::string program = aside.file("engine");
    REQUIRE(create_meta(image, served));
    std::ofstream(program) << "#!/bin/sh\ncp " << image << ' ' << nodes.alpha.meta()
                           << "\nexit 1\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    const EngineProgram engine(program);

    CHECK_FALSE(promote(nodes.alpha.r0(), {}));
    const Superblock after = nodes.alpha.superblock();
    CHECK(after.role == Role::standby);
    CHECK(after.lineage == served.lineage);
    CHECK(after.solo);
}

TEST_CASE("a promotion whose engine never served is taken back as a whole") {
    const EngineProgram engine("/bin/false");
    TwoNodes nodes;
    nodes.start();
    nodes.beta.on_question([](const Json&, const nbd::Client&) { return lost(); });
    const auto done = promote(nodes.alpha.r0(), {.force = true});
    REQUIRE_FALSE(done);
    CHECK_MESSAGE(done.error().message.find("did not start") != std::string::npos,
                  done.error().text());
    const Superblock after = nodes.alpha.superblock();
    CHECK(after.role == Role::standby);
    CHECK(after.lineage == nodes.alphas.lineage);
    CHECK_FALSE(after.solo);
}

TEST_CASE("a switch goes on where the answer to its demotion is lost, and it was done") {
    TwoNodes nodes;
    nodes.start();
    std::atomic<bool> demoted{false};
    nodes.beta.on_question([&](const Json& request, const nbd::Client& client) -> Instead {
        if (is_question(request, "peer-status")) {
            return with_role(nodes.beta.requests->handle(request, client),
                             demoted ? "standby" : "active");
        }
        if (is_question(request, "demote")) {
            demoted = true;
            return lost();
        }
        if (is_question(request, "promote")) {
            demoted = false;
            return Json{{"text", "promoted"}};
        }
        return std::nullopt;
    });
    // No engine starts on alpha, so the volume is given back.
    const EngineProgram engine("/bin/false");
    const auto done = switch_roles(nodes.alpha.r0(), {.to = "alpha"});
    REQUIRE_FALSE(done);
    CHECK_MESSAGE(done.error().message.find("active on beta again") != std::string::npos,
                  done.error().text());
    CHECK_FALSE(demoted);
}

TEST_CASE("a switch whose promotion is answered too late is not said to have failed") {
    TwoNodes nodes;
    nodes.alphas.role = Role::active;
    nodes.alphas.last_active = true;
    nodes.alpha.make_replica(nodes.alphas);
    nodes.beta.make_replica(nodes.betas);
    nodes.alpha.prepare("alpha", nodes.config());
    nodes.beta.prepare("beta", nodes.config());
    make_dead_active(nodes.alpha);
    nodes.beta.start();
    nodes.alpha.start();
    // The supervisor asks beta, and tries to start the engine for good then.
    REQUIRE(eventually([&] { return nodes.alpha.r0().place() == Place::active; }));
    std::atomic<bool> promoted{false};
    nodes.beta.on_question([&](const Json& request, const nbd::Client& client) -> Instead {
        if (is_question(request, "peer-status") && promoted) {
            return with_role(nodes.beta.requests->handle(request, client), "active");
        }
        if (is_question(request, "promote")) {
            promoted = !request.value("dry_run", false);
            return promoted ? lost() : Instead(Json::object());
        }
        return std::nullopt;
    });
    Result<Json> done;
    REQUIRE(eventually([&] {  // while the supervisor tries the engine, it is busy
        done = switch_roles(nodes.alpha.r0(), {.to = "beta", .disconnect_clients = true});
        return done || done.error().kind != ErrorKind::busy;
    }));
    CHECK_MESSAGE(done, (done ? "" : done.error().text()));
    CHECK(promoted);
    CHECK(nodes.alpha.events_of("switch-failed") == 0);
}

TEST_CASE("a volume whose role was decided meanwhile is not promoted by the boot") {
    TwoNodes nodes;
    nodes.start();
    note_boot_decided(nodes.alpha.context->node, "r0");
    const auto done = promote(nodes.alpha.r0(), {.cause = "boot"});
    REQUIRE_FALSE(done);
    CHECK(done.error().kind == ErrorKind::refused);
    CHECK(nodes.alpha.superblock().lineage == nodes.alphas.lineage);
    CHECK(nodes.beta.asked().empty());
}

TEST_CASE("a volume that is to go on does not where a session began while the peer was asked") {
    TwoNodes nodes;
    nodes.alphas.role = Role::active;
    nodes.alpha.make_replica(nodes.alphas);
    nodes.beta.make_replica(nodes.betas);
    nodes.alpha.prepare("alpha", nodes.config());
    nodes.beta.prepare("beta", nodes.config());
    make_dead_active(nodes.alpha);
    nodes.beta.start();
    std::atomic<bool> has_begun{false};
    std::atomic<int> roles_taken{0};
    nodes.beta.on_question([&](const Json& request, const nbd::Client&) -> Instead {
        if (is_question(request, "peer-status")) {
            roles_taken += nodes.alpha.superblock().role == Role::active ? 1 : 0;
            if (const auto lease = nodes.alpha.r0().replica(); lease && !has_begun.exchange(true)) {
                CHECK((*lease)->begin_session({random_id<SessionId>(), "beta", false, 2}));
            }
        }
        return std::nullopt;
    });
    nodes.alpha.start();
    CHECK(eventually([&] { return has_begun.load(); }));
    // It is asked again when it answers.
    REQUIRE(nodes.alpha.peers->start(
        [&](const std::string&, const PeerView& view, PeerWatch::Change change) {
            nodes.alpha.r0().on_peer(view, change);
        }));
    CHECK(eventually([&] {
        return nodes.alpha.events_of("demoted") + nodes.alpha.events_of("engine-start-failed") != 0;
    }));
    CHECK(nodes.alpha.events_of("engine-start-failed") == 0);
    CHECK(nodes.alpha.superblock().role == Role::standby);
    CHECK(roles_taken == 0);
}

TEST_CASE("a peer that was lost while it was looked at is not shown as reachable") {
    TwoNodes nodes;
    nodes.start();
    PeerWatch& peers = *nodes.alpha.peers;
    std::mutex mutex;
    std::string watching;  // the address of the thread that tells what is lost and found
    std::atomic<bool> armed{false};
    std::atomic<bool> looked{false};
    nodes.beta.on_question([&](const Json&, const nbd::Client& client) -> Instead {
        bool is_watch = false;
        {
            const std::lock_guard lock(mutex);
            watching = watching.empty() ? client.address : watching;
            is_watch = client.address == watching;
        }
        if (armed && is_watch) {
            return fail(ErrorKind::refused, "it is being stopped");
        }
        if (armed && !looked.exchange(true)) {
            CHECK(eventually([&] { return !peers.view("beta").reachable; }));
        }
        return std::nullopt;
    });
    REQUIRE(peers.start([](const std::string&, const PeerView&, PeerWatch::Change) {}));
    REQUIRE(eventually([&] { return peers.view("beta").reachable; }));
    armed = true;
    PeerView seen;
    REQUIRE(eventually([&] {  // what was seen a moment ago is not asked for again
        seen = peers.view_now("beta");
        return looked || !seen.reachable;
    }));
    REQUIRE(looked);
    CHECK_FALSE(seen.reachable);
    armed = false;
    CHECK(eventually([&] { return nodes.alpha.events_of("peer-seen") == 2; }));
    peers.stop();
}

TEST_CASE("a volume's backing is known to others also while it lives in another STATE_DIR") {
    TwoNodes nodes;
    const TempDir former;
    nodes.alpha.make_replica(nodes.alphas);
    const auto identity = identity_at(nodes.alpha.backing());
    REQUIRE(identity);
    Superblock other = TwoNodes::first_of("alpha", "beta");
    other.volume_name = "r1";
    other.backing_identity = *identity;
    REQUIRE(create_meta(meta_path(former.path(), "r1"), other));
    {
        const auto meta = open_meta(nodes.alpha.meta());
        REQUIRE(meta);
        REQUIRE((*meta)->update([](Superblock& block) { block.backing_identity = "another"; }));
    }
    const std::string more =
        fmt::format("[volume.r1]\nbacking.alpha = \"{0}/r1.img\"\nbacking.beta = \"{0}/r1.img\"\n",
                    former.path());
    nodes.alpha.prepare("alpha", nodes.config(more),
                        [&](Homes& homes) { homes.at("r1").node.state_dir = former.path(); });
    REQUIRE(nodes.alpha.r0().start());
    CHECK(nodes.alpha.r0().place() == Place::failed);
    CHECK(nodes.alpha.r0().facts().failure.find("is the backing of volume r1") !=
          std::string::npos);
}

TEST_CASE("a replica whose disk failed tells the peer nothing of what the volume holds") {
    TwoNodes nodes;
    nodes.betas.state = ReplicaState::failed;
    nodes.start();
    const nbd::Client alpha{.address = "127.0.0.1:1"};
    for (const Json& request :
         {Json{{"request", "differing-regions"}, {"volume", "r0"}, {"from", 0}}, [] {
              Json ask = control::ask_block_digests(random_id<SessionId>(), {0});
              ask["volume"] = "r0";
              return ask;
          }()}) {
        const auto answer = nodes.beta.requests->handle(request, alpha);
        REQUIRE_FALSE(answer);
        CHECK(answer.error().kind == ErrorKind::refused);
    }
    // What is left of it may be worth an undo file, which it saves itself.
    CHECK(find_differing_blocks(nodes.beta.r0(), {Node::volume_size, Node::volume_size}, true));
}
