// SPDX-License-Identifier: BSD-3-Clause
// The active's disk fails, and its peer is asked to continue alone: who has everything, who knows
// it, and who may be promoted, whichever of the questions and replies is late, lost or unclear.
#include <atomic>
#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/lineage/handshake.hpp"
#include "core/nbd/link.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

const Error full{ErrorKind::no_space, "the disk is full", {}, 28};
const Error broken{ErrorKind::io, "the disk is broken", {}, 5};

/// A connection more of the session that there is.
std::unique_ptr<nbd::Link> open_digests(MirrorPair& pair) {
    const auto session = pair.replica().session();
    REQUIRE(session);
    nbd::Address address;
    address.tcp = {"127.0.0.1", pair.server().port()};
    auto link = nbd::Link::connect(
        address, "r0/digest@" + to_string(session->id),
        {.connect_timeout = 20s, .deadline = 60s, .heartbeat = false, .peer_name = "beta"});
    REQUIRE_MESSAGE(link, link.error().text());
    return std::move(*link);
}

}  // namespace

TEST_CASE(
    "writes answered while the peer is asked to go on alone are not lost when it agrees late") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    Barrier barrier;
    std::atomic<bool> may_meet{false};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "generation") {
            barrier.wait();
        }
        if (what == "handshake" && !may_meet) {
            return fail(ErrorKind::busy, "not yet");
        }
        return {};
    });
    pair.alpha.disk_faults.fail_writes(broken);
    std::thread failing(
        [&] { (void)pair.volume().write(pattern(4096, 1), 0, Durability::cached); });
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    pair.alpha.disk_faults.fail_writes({});
    pair.beta.disk_faults.fail_writes(full);  // ends the session while beta is still asked
    CHECK(pair.volume().write(pattern(4096, 2), MiB, Durability::cached));
    CHECK(pair.volume().write(pattern(4096, 3), 2 * MiB, Durability::cached));
    pair.beta.disk_faults.fail_writes({});
    barrier.open();  // only now it agrees
    failing.join();
    may_meet = true;
    REQUIRE(eventually([&] { return pair.mode() == "in-sync"; }, 20s));
    CHECK(pair.status()["local_failed"] == false);
    CHECK(content(pair.beta.disk, {MiB, 4096}) == pattern(4096, 2));
    CHECK(pair.equal());
    CHECK_FALSE(superblock_on(pair.beta.meta).last_active);
}

TEST_CASE("a peer that agreed to go on alone and could not say so is no split brain") {
    for (const bool writes_alone : {true, false}) {
        CAPTURE(writes_alone);
        MirrorPair pair({.peer_timeout = 2s});
        REQUIRE(pair.wait_in_sync());
        std::atomic<bool> may_meet{false};
        pair.server().on_request([&](const std::string& what) -> Result<void> {
            return what == "handshake" && !may_meet ? fail(ErrorKind::busy, "not yet")
                                                    : Result<void>{};
        });
        pair.server().on_answer([](const std::string& what) -> Result<void> {
            return what == "generation" ? fail(ErrorKind::io, "the answer got lost")
                                        : Result<void>{};
        });
        const Lineage before = superblock_on(pair.beta.meta).lineage;
        pair.alpha.disk_faults.fail_writes(broken);
        CHECK_FALSE(pair.volume().write(pattern(4096, 3), 0, Durability::cached));
        pair.alpha.disk_faults.fail_writes({});
        CHECK(relate(superblock_on(pair.beta.meta).lineage, before) == Relation::ahead);
        if (writes_alone) {
            CHECK(pair.volume().write(pattern(4096, 4), MiB, Durability::fua));
        }
        pair.server().on_answer({});
        may_meet = true;
        REQUIRE(eventually([&] { return pair.mode() == "in-sync"; }));
        CHECK(pair.equal());
        CHECK(relate(superblock_on(pair.alpha.meta).lineage,
                     superblock_on(pair.beta.meta).lineage) == Relation::equal);
        // It can agree again, to a generation of its own.
        pair.alpha.disk_faults.fail_writes(broken);
        CHECK(pair.volume().write(pattern(4096, 5), 0, Durability::cached));
        CHECK(pair.status()["local_failed"] == true);
    }
}

TEST_CASE("a peer may be promoted without asking only when the failed side has written that down") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    Barrier confirmed;
    std::atomic<int> asked{0};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "generation" && ++asked == 2) {
            CHECK(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::failed);
            CHECK_FALSE(superblock_on(*durable_image(pair.alpha.meta)).last_active);
            CHECK_FALSE(superblock_on(pair.beta.meta).last_active);
        }
        return {};
    });
    pair.alpha.disk_faults.fail_writes(broken);
    CHECK(pair.volume().write(pattern(4096, 6), 0, Durability::cached));
    REQUIRE(eventually([&] { return superblock_on(pair.beta.meta).last_active; }));
    CHECK(asked == 2);
}

TEST_CASE("a peer that takes what it was offered after the next handshake is no split brain") {
    MirrorPair pair({.peer_timeout = 300ms});
    REQUIRE(pair.wait_in_sync());
    // As where a network drops what tells the standby that the session's connections have ended.
    const auto lingering = open_digests(pair);
    Barrier late;
    std::atomic<bool> taken{false};
    std::atomic<bool> may_meet{false};
    pair.server().on_point([&](const std::string& point) -> Result<void> {
        if (point == "ask generation") {
            late.wait();
        }
        taken = taken || point == "done generation";
        if (point == "ask handshake" && !may_meet) {
            return fail(ErrorKind::busy, "not yet");
        }
        if (point == "ask session-begin" && may_meet.exchange(false)) {
            late.open();  // the handshake has not shown it
            CHECK(eventually([&] { return taken.load(); }));
            return fail(ErrorKind::io, "the session does not begin");
        }
        return {};
    });
    pair.alpha.disk_faults.fail_once(broken);
    CHECK_FALSE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    may_meet = true;
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return taken.load();
    }));
    CHECK(pair.volume().write(pattern(4096, 2), MiB, Durability::cached));
    pair.server().on_point({});
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return pair.mode() == "in-sync";
    }));
    CHECK(pair.equal());
}

TEST_CASE("a failure that can't be written down at once is, before the peer gets the token") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));  // its intent is there
    pair.alpha.disk_faults.fail_writes(broken);
    pair.alpha.meta_faults.fail_once(broken);
    pair.server().on_point([&](const std::string& point) -> Result<void> {
        if (point == "ask generation-confirmed") {
            CHECK(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::failed);
            CHECK_FALSE(superblock_on(*durable_image(pair.alpha.meta)).last_active);
        }
        return {};
    });
    CHECK(pair.volume().write(pattern(4096, 2), 0, Durability::cached));
    (void)pair.ask({{"request", "quiesce"}});
    CHECK(superblock_on(pair.beta.meta).last_active);
}

TEST_CASE("a disk that fails as the active is demoted leaves the token to the peer") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    pair.alpha.disk_faults.fail_flushes(broken);
    (void)pair.ask({{"request", "quiesce"}});
    CHECK(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::failed);
    CHECK_FALSE(superblock_on(pair.alpha.meta).last_active);
    CHECK(superblock_on(pair.beta.meta).last_active);
}

TEST_CASE(
    "a standby that is asked to go on alone and says nothing holds a write for peer_timeout") {
    MirrorPair pair({.peer_timeout = 300ms});
    REQUIRE(pair.wait_in_sync());
    Barrier barrier;
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "generation") {
            barrier.wait();
        }
        return {};
    });
    pair.alpha.disk_faults.fail_writes(broken);
    const auto begun = std::chrono::steady_clock::now();
    CHECK_FALSE(pair.volume().write(pattern(4096, 7), 0, Durability::cached));
    CHECK(std::chrono::steady_clock::now() - begun < 3s);
    barrier.open();
}
