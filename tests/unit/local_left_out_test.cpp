// SPDX-License-Identifier: BSD-3-Clause
// The local replica after its disk failed, and whether it may be left out at all: nothing that it
// holds may be taken for what was answered, and the peer must have everything before it goes.
#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/comparison_requests.hpp"
#include "express_client.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

const Error broken{ErrorKind::io, "the disk is broken", {}, 5};

/// The first write to beta's disk from now on waits there, the later ones don't.
void hold_first_write(MirrorPair& pair, Barrier& barrier, std::atomic<bool>& came) {
    pair.beta.disk_faults.before_write([&] {
        if (!came.exchange(true)) {
            barrier.wait();
        }
    });
}

/// beta lacks one block at 3 MiB, and the resync that brings it is held before beta's disk.
void begin_resync(MirrorPair& pair, Barrier& barrier, std::atomic<bool>& came) {
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 1), 3 * MiB, Durability::cached));
    hold_first_write(pair, barrier, came);
    pair.restore();
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return barrier.arrived() == 1;
    }));
    REQUIRE(pair.mode() == "syncing");
}

}  // namespace

TEST_CASE("what the page cache of a replica that was left out holds is not read any more") {
    Express express;
    const Bytes old = pattern(64 * KiB, 1);
    const Bytes answered = pattern(64 * KiB, 2);
    REQUIRE(express.client->link().write(old, 0, false));
    Bytes cached(old.size());
    REQUIRE(express.pair.alpha.open_disk()->read_cached(cached, 0));
    express.pair.alpha.disk_faults.fail_writes(broken);
    REQUIRE(express.client->link().write(answered, 0, false));
    REQUIRE(express.pair.status()["local_failed"] == true);
    REQUIRE(express.pair.alpha.open_disk()->read_cached(cached, 0));
    REQUIRE(cached == old);
    CHECK(express.client->read({0, answered.size()}) == answered);
    CHECK(express.client->read({4096, 512}) == Bytes(answered.begin() + 4096,  //
                                                     answered.begin() + 4096 + 512));
    CHECK(express.pair.read({0, answered.size()}) == answered);
}

TEST_CASE("nothing is acknowledged on the peer's copy alone before the failure is written down") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    REQUIRE(pair.volume().write(pattern(4096, 1), 2 * MiB, Durability::cached));
    pair.alpha.disk_faults.fail_writes(broken);
    Barrier record;
    pair.alpha.meta_faults.before_write([&] { record.wait(); });
    std::atomic<int> acknowledged{0};
    const auto acknowledge = [&](const Result<void>& done) {
        CHECK(done);
        CHECK(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::failed);
        CHECK_FALSE(superblock_on(*durable_image(pair.alpha.meta)).last_active);
        ++acknowledged;
    };
    std::thread first(
        [&] { acknowledge(pair.volume().write(pattern(4096, 2), 0, Durability::cached)); });
    REQUIRE(eventually([&] { return record.arrived() == 1; }));
    std::thread second(
        [&] { acknowledge(pair.volume().write(pattern(4096, 3), 2 * MiB, Durability::cached)); });
    std::thread flush([&] { acknowledge(pair.volume().flush()); });
    CHECK_FALSE(eventually([&] { return acknowledged != 0; }, 100ms));
    record.open();
    for (std::thread* each : {&first, &second, &flush}) {
        each->join();
    }
    CHECK(content(pair.beta.disk, {2 * MiB, 4096}) == pattern(4096, 3));
}

TEST_CASE("an engine whose replica was left out is not replaced: another one could serve nothing") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.alpha.disk_faults.fail_writes(broken);
    SUBCASE("it failed before") {
        REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    }
    SUBCASE("it fails while everything is made durable for the next engine") {
        pair.alpha.disk_faults.fail_writes({});
        REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
        pair.alpha.disk_faults.fail_flushes(broken);
    }
    const auto held = pair.volume().handle({{"request", "hold"}});
    REQUIRE_FALSE(held);
    CHECK(held.error().kind == ErrorKind::refused);
    CHECK(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::failed);
}

TEST_CASE("a failure that nobody had written down is, when the role ends without a session") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    pair.alpha.disk_faults.fail_writes(broken);
    pair.alpha.meta_faults.fail_writes(broken);
    REQUIRE(pair.volume().write(pattern(4096, 2), 0, Durability::cached));
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::up_to_date);
    pair.alpha.meta_faults.fail_writes({});
    (void)pair.ask({{"request", "quiesce"}});
    CHECK(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::failed);
    CHECK_FALSE(superblock_on(*durable_image(pair.alpha.meta)).last_active);
}

TEST_CASE("a hole of a replica that was left out is none of the volume's") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    const auto before = pair.volume().extents({0, pair_size});
    REQUIRE(before);
    REQUIRE(before->back().hole);
    pair.alpha.disk_faults.fail_writes(broken);
    REQUIRE(pair.volume().write(pattern(4096, 2), 2 * MiB, Durability::cached));
    REQUIRE(pair.status()["local_failed"] == true);
    const auto after = pair.volume().extents({0, pair_size});
    REQUIRE(after);
    // Whoever copies the volume skips what is called a hole.
    std::uint64_t covered = 0;
    for (const Extent& extent : *after) {
        CHECK(extent.range.offset == covered);
        CHECK_FALSE((extent.hole && extent.range.overlaps({2 * MiB, 4096})));
        covered = extent.range.end();
    }
    CHECK(covered == pair_size);
}

TEST_CASE("a replica that was left out is not what a split brain is decided by") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const control::Json digests = control::ask_block_digests(random_id<SessionId>(), {0});
    const control::Json regions = {{"request", "differing-regions"}, {"from", 0}};
    CHECK(pair.volume().handle(digests));
    CHECK(pair.volume().handle(regions));
    SUBCASE("before it is asked") {
        pair.alpha.disk_faults.fail_writes(broken);
        REQUIRE(pair.volume().write(pattern(4096, 2), 0, Durability::cached));
    }
    SUBCASE("while it reads") {
        std::atomic<bool> has_failed{false};
        pair.alpha.disk_faults.before_read([&] {
            if (!has_failed.exchange(true)) {
                pair.alpha.disk_faults.fail_writes(broken);
                CHECK(pair.volume().write(pattern(4096, 2), 2 * MiB, Durability::cached));
            }
        });
        REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    }
    for (const control::Json& request : {digests, regions}) {
        const auto answer = pair.volume().handle(request);
        REQUIRE_FALSE(answer);
        CHECK(answer.error().kind == ErrorKind::refused);
    }
    CHECK(pair.status()["local_failed"] == true);
}

TEST_CASE("a local disk that fails while the peer is brought up to date is not left out") {
    Barrier barrier;
    std::atomic<bool> came{false};
    MirrorPair pair;
    begin_resync(pair, barrier, came);
    std::atomic<int> asked{0};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        asked += what == "generation" ? 1 : 0;
        return {};
    });
    pair.alpha.disk_faults.fail_writes(broken);
    SUBCASE("in a write") {
        CHECK_FALSE(pair.volume().write(pattern(4096, 2), 0, Durability::cached));
    }
    SUBCASE("in a write with FUA") {
        CHECK_FALSE(pair.volume().write(pattern(4096, 2), 0, Durability::fua));
    }
    SUBCASE("in zeroing") {
        CHECK_FALSE(pair.volume().zero({0, 4096}, Space::may_free, Durability::cached));
    }
    SUBCASE("in a flush") {
        pair.alpha.disk_faults.fail_flushes(broken);
        CHECK_FALSE(pair.volume().flush());
    }
    // Only alpha has what was written alone: beta must not be told that it has everything.
    CHECK(asked == 0);
    CHECK(pair.status()["local_failed"] == false);
    CHECK(superblock_on(pair.alpha.meta).state == ReplicaState::up_to_date);
    CHECK(superblock_on(pair.alpha.meta).last_active);
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::inconsistent);
    CHECK_FALSE(superblock_on(pair.beta.meta).last_active);
    CHECK(pair.read({3 * MiB, 4096}) == pattern(4096, 1));
    pair.alpha.disk_faults.fail_writes({});
    pair.alpha.disk_faults.fail_flushes({});
    barrier.open();
    REQUIRE(pair.wait_in_sync());
    CHECK(content(pair.beta.disk, {3 * MiB, 4096}) == pattern(4096, 1));
    CHECK(pair.equal());
}

TEST_CASE("that the local replica was left out is written down as soon as that is possible") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.alpha.disk_faults.fail_writes(broken);
    pair.alpha.meta_faults.fail_writes(broken);
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    REQUIRE(pair.status()["local_failed"] == true);
    CHECK(superblock_on(pair.alpha.meta).state == ReplicaState::up_to_date);
    // Both may believe that they are the last active: so beta may not yet.
    CHECK_FALSE(superblock_on(pair.beta.meta).last_active);
    pair.alpha.meta_faults.fail_writes({});
    CHECK(eventually([&] {
        const Superblock here = superblock_on(*durable_image(pair.alpha.meta));
        return here.state == ReplicaState::failed && !here.last_active;
    }));
    CHECK(eventually([&] { return superblock_on(*durable_image(pair.beta.meta)).last_active; }));
}

TEST_CASE("a comparison that was asked for while the local disk fails copies nothing from it") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    Barrier asked;
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "generation") {
            asked.wait();
        }
        return {};
    });
    pair.alpha.disk_faults.fail_writes(broken);
    std::thread writer(
        [&] { CHECK(pair.volume().write(pattern(4096, 2), 0, Durability::cached)); });
    REQUIRE(eventually([&] { return asked.arrived() == 1; }));
    // beta may have agreed already: whether alpha's replica counts is not known now.
    (void)pair.ask({{"request", "resync"}, {"full", true}});
    asked.open();
    writer.join();
    REQUIRE(pair.status()["local_failed"] == true);
    CHECK_FALSE(eventually([&] { return pair.mode() != "in-sync"; }, 200ms));
    // Through the session that the resync would have used, and after whatever it would have sent.
    CHECK(pair.volume().write(pattern(4096, 3), 2 * MiB, Durability::fua));
    (void)pair.ask({{"request", "quiesce"}});
    CHECK(content(pair.beta.disk, {0, 4096}) == pattern(4096, 2));
    CHECK(content(pair.beta.disk, {2 * MiB, 4096}) == pattern(4096, 3));
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::up_to_date);
}
