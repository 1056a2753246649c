// SPDX-License-Identifier: BSD-3-Clause
// The engine when a disk fails or a standby says nothing.
#include <atomic>
#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/lineage/handshake.hpp"
#include "mirror_pair.hpp"
#include "no_threads.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

const Error full{ErrorKind::no_space, "the disk is full", {}, 28};
const Error broken{ErrorKind::io, "the disk is broken", {}, 5};

}  // namespace

TEST_CASE("a silent standby holds a write for peer_timeout at most") {
    MirrorPair pair({.peer_timeout = 300ms});
    REQUIRE(pair.wait_in_sync());
    pair.server().be_silent(true);
    const auto begun = std::chrono::steady_clock::now();
    CHECK(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    CHECK(std::chrono::steady_clock::now() - begun < 3s);
    CHECK(pair.mode() == "alone");
    CHECK(pair.volume().write(pattern(4096, 2), 4096, Durability::fua));
    CHECK(superblock_on(*durable_image(pair.alpha.meta)).solo);
    pair.server().be_silent(false);
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a silent standby is noticed without any write") {
    MirrorPair pair({.peer_timeout = 300ms});
    REQUIRE(pair.wait_in_sync());
    pair.server().be_silent(true);
    CHECK(pair.wait_alone());
    pair.server().be_silent(false);
    CHECK(pair.wait_in_sync());
}

TEST_CASE("with on_peer_loss = stop a write waits for the standby while reads go on") {
    MirrorPair pair({.on_peer_loss = OnPeerLoss::stop});
    REQUIRE(pair.wait_in_sync());
    const Lineage before = superblock_on(pair.alpha.meta).lineage;
    pair.cut();
    REQUIRE(pair.wait_alone());
    std::atomic<int> answered{0};
    std::thread writer([&] {
        CHECK(pair.volume().write(pattern(4096, 3), 0, Durability::cached));
        ++answered;
    });
    std::thread flusher([&] {
        CHECK(pair.volume().flush());
        ++answered;
    });
    CHECK(pair.read({MiB, 4096}) == Bytes(4096));
    CHECK_FALSE(eventually([&] { return answered != 0; }, 100ms));
    pair.restore();
    CHECK(pair.wait_in_sync());
    writer.join();
    flusher.join();
    CHECK(pair.equal());
    CHECK(superblock_on(pair.alpha.meta).lineage == before);
}

TEST_CASE("with on_peer_loss = stop a write in flight at the break waits too") {
    MirrorPair pair({.on_peer_loss = OnPeerLoss::stop});
    REQUIRE(pair.wait_in_sync());
    Barrier barrier;
    pair.beta.disk_faults.before_write([&] { barrier.wait(); });
    std::atomic<bool> answered{false};
    std::thread writer([&] {
        CHECK(pair.volume().write(pattern(4096, 4), 0, Durability::cached));
        answered = true;
    });
    CHECK(eventually([&] { return barrier.arrived() == 1; }));
    pair.server().sever();
    CHECK(pair.wait_alone());
    CHECK_FALSE(eventually([&] { return answered.load(); }, 100ms));
    barrier.open();
    pair.beta.disk_faults.before_write({});
    pair.cut();
    pair.restore();
    CHECK(pair.wait_in_sync());
    writer.join();
    CHECK(pair.equal());
}

TEST_CASE("a demote ends the wait of on_peer_loss = stop with an error") {
    MirrorPair pair({.on_peer_loss = OnPeerLoss::stop});
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    std::atomic<bool> answered{false};
    std::thread writer([&] {
        CHECK_FALSE(pair.volume().write(pattern(4096, 5), 0, Durability::cached));
        answered = true;
    });
    CHECK_FALSE(eventually([&] { return answered.load(); }, 50ms));
    (void)pair.ask({{"request", "quiesce"}, {"disconnect_clients", true}});
    writer.join();
}

TEST_CASE(
    "a full or broken disk of the standby breaks the mirror and the application sees success") {
    for (const Error& error : {full, broken}) {
        MirrorPair pair;
        REQUIRE(pair.wait_in_sync());
        pair.beta.disk_faults.fail_writes(error);
        CHECK(pair.volume().write(pattern(4096, 6), 0, Durability::cached));
        CHECK(pair.mode() != "in-sync");
        CHECK(superblock_on(*durable_image(pair.alpha.meta)).solo);
        CHECK(pair.volume().write(pattern(4096, 7), MiB, Durability::fua));
        CHECK(pair.read({0, 4096}) == pattern(4096, 6));
        pair.beta.disk_faults.fail_writes({});
        // Nobody has to ask for it.
        REQUIRE(eventually([&] { return pair.mode() == "in-sync"; }));
        CHECK(pair.equal());
    }
}

TEST_CASE("a flush that fails on the standby breaks the mirror and the application sees success") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.volume().write(pattern(4096, 8), 0, Durability::cached));
    pair.beta.disk_faults.fail_flushes(broken);
    CHECK(pair.volume().flush());
    CHECK(pair.mode() != "in-sync");
    pair.beta.disk_faults.fail_flushes({});
    REQUIRE(pair.wait_in_sync());
    CHECK(content(*durable_image(pair.beta.disk), {0, 4096}) == pattern(4096, 8));
}

TEST_CASE("a broken local disk leaves the volume going on from the peer's copy") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(8192, 9), 0, Durability::cached));
    const Lineage before = superblock_on(pair.beta.meta).lineage;
    pair.alpha.disk_faults.fail_writes(broken);
    CHECK(pair.volume().write(pattern(4096, 10), 0, Durability::cached));
    CHECK(content(pair.beta.disk, {0, 4096}) == pattern(4096, 10));
    CHECK(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::failed);
    const Lineage after = superblock_on(*durable_image(pair.beta.meta)).lineage;
    CHECK(relate(after, before) == Relation::ahead);
    CHECK(after.entries().front().reason == GenerationReason::local_disk_failed);

    CHECK(pair.read({0, 4096}) == pattern(4096, 10));
    CHECK(pair.volume().write(pattern(4096, 11), MiB, Durability::fua));
    CHECK(pair.volume().flush());
    CHECK(pair.read({MiB, 4096}) == pattern(4096, 11));
    CHECK(pair.status()["local_failed"] == true);

    pair.cut();
    REQUIRE(pair.wait_alone());
    CHECK_FALSE(pair.volume().write(pattern(4096, 12), 0, Durability::cached));
    Bytes bytes(4096);
    CHECK_FALSE(pair.volume().read(bytes, 0));
}

TEST_CASE("a session that ends while the standby is told that it is equal is given up at once") {
    MirrorPair pair({.peer_timeout = 300ms});
    Barrier barrier;
    std::atomic<int> told{0};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "session-synced" && told++ == 0) {
            barrier.wait();
        }
        return {};
    });
    pair.cut();
    pair.restore();
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    const auto begun = std::chrono::steady_clock::now();
    pair.server().be_silent(true);
    REQUIRE(pair.wait_alone());
    CHECK(std::chrono::steady_clock::now() - begun < 5s);
    barrier.open();
    pair.server().be_silent(false);
    CHECK(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a flush that is answered after the standby lost its power is on record") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 8), 0, Durability::cached));
    pair.lose_power(Victim::beta, [](std::size_t) { return false; });
    REQUIRE(pair.wait_alone());
    CHECK_FALSE(superblock_on(pair.alpha.meta).solo);
    CHECK(pair.volume().flush());
    CHECK(superblock_on(*durable_image(pair.alpha.meta)).solo);
}

TEST_CASE("a flush of what both have flushed begins no generation") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Lineage before = superblock_on(pair.alpha.meta).lineage;
    pair.cut();
    REQUIRE(pair.wait_alone());
    CHECK(pair.volume().flush());
    CHECK(superblock_on(pair.alpha.meta).lineage == before);
}

TEST_CASE("a local flush that fails leaves the volume going on from the peer's copy") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(8192, 13), 0, Durability::cached));
    pair.alpha.disk_faults.fail_flushes(broken);
    CHECK(pair.volume().flush());
    CHECK(superblock_on(*durable_image(pair.alpha.meta)).state == ReplicaState::failed);
    CHECK(content(*durable_image(pair.beta.disk), {0, 8192}) == pattern(8192, 13));
}

TEST_CASE("a broken local disk without the peer fails the write") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    pair.alpha.disk_faults.fail_writes(broken);
    CHECK(pair.volume().write(pattern(4096, 14), 0, Durability::cached).error().kind ==
          ErrorKind::io);
}

TEST_CASE("what cannot be read here comes from the peer and is written again") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Bytes data = pattern(64 * KiB, 15);
    REQUIRE(pair.volume().write(data, MiB, Durability::cached));
    pair.alpha.disk.damage(MiB + 5000, std::byte{1});
    pair.alpha.disk.fail_reads({MiB + 4096, 4096});
    CHECK(pair.read({MiB, data.size()}) == data);
    pair.alpha.disk.fail_reads({});
    CHECK(content(pair.alpha.disk, {MiB, data.size()}) == data);
    const auto status = pair.status();
    CHECK(status["media_errors"] == 1);
    CHECK(status["media"]["read_errors"] == 1);
    CHECK(status["media"]["repaired"] == 1);
    CHECK(status["media"]["ranges"][0]["offset_bytes"] == MiB);
    CHECK(status["media"]["ranges"][0]["action"] == "repaired");
    CHECK(eventually([&] { return superblock_on(pair.alpha.meta).media_errors == 1; }));
    CHECK(pair.equal());
}

TEST_CASE("what cannot be read here is not taken from a standby that lacks it") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 16), 0, Durability::cached));
    pair.alpha.disk.fail_reads({0, 4096});
    pair.restore();
    Bytes bytes(4096);
    for (int i = 0; i < 50; ++i) {
        (void)pair.ask({{"request", "peer-hint"}});
        CHECK_FALSE(pair.volume().read(bytes, 0));
    }
    pair.alpha.disk.fail_reads({});
    (void)pair.ask({{"request", "resync"}});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a checkpoint whose flush fails on the standby keeps the intents and breaks the mirror") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 17), 2 * MiB, Durability::cached));
    const auto intents = [&] { return map_on(pair.alpha.meta, MapKind::intent); };
    CHECK(intents().test(2));
    pair.beta.disk_faults.fail_flushes(broken);
    CHECK_FALSE(pair.volume().checkpoint());
    CHECK(intents().test(2));
    CHECK(pair.mode() != "in-sync");
    pair.beta.disk_faults.fail_flushes({});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("compared_bytes") >= MiB);
    CHECK(pair.volume().checkpoint());
    CHECK(intents().empty());
    for (MemoryDisk* disk : {&pair.alpha.disk, &pair.beta.disk}) {
        CHECK(content(*durable_image(*disk), {2 * MiB, 4096}) == pattern(4096, 17));
    }
}

TEST_CASE(
    "a checkpoint whose flush fails here leaves the local replica out, or keeps the intents") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 17), 2 * MiB, Durability::cached));
    pair.cut();
    REQUIRE(pair.wait_alone());
    pair.alpha.disk_faults.fail_flushes(broken);
    CHECK_FALSE(pair.volume().checkpoint());
    CHECK(map_on(pair.alpha.meta, MapKind::intent).test(2));
    CHECK(pair.status()["local_failed"] == false);
    pair.alpha.disk_faults.fail_flushes({});
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 18), 2 * MiB, Durability::cached));
    pair.alpha.disk_faults.fail_flushes(broken);
    (void)pair.volume().checkpoint();
    CHECK(pair.status()["local_failed"] == true);
    CHECK(superblock_on(pair.alpha.meta).state == ReplicaState::failed);
    CHECK(content(*durable_image(pair.beta.disk), {2 * MiB, 4096}) == pattern(4096, 18));
}

TEST_CASE(
    "metadata that cannot be written leave the local replica out and the peer takes the write") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Lineage before = superblock_on(pair.beta.meta).lineage;
    pair.alpha.meta_faults.fail_writes(broken);
    CHECK(pair.volume().write(pattern(4096, 18), 0, Durability::cached));
    CHECK(content(pair.alpha.disk, {0, 4096}) == Bytes(4096));
    CHECK(content(pair.beta.disk, {0, 4096}) == pattern(4096, 18));
    CHECK(relate(superblock_on(*durable_image(pair.beta.meta)).lineage, before) == Relation::ahead);
    CHECK(pair.read({0, 4096}) == pattern(4096, 18));
    CHECK(pair.volume().write(pattern(4096, 19), 3 * MiB, Durability::fua));
    CHECK(pair.volume().flush());
    const auto status = pair.status();
    CHECK(status["local_failed"] == true);
    CHECK(status["summary"]["state"] == "failed");
    CHECK(status["media"]["write_errors"] == 1);
    CHECK(status["media"]["ranges"][0]["operation"] == "metadata");
    CHECK(status["media"]["ranges"][0]["action"] == "replica-left-out");
}

TEST_CASE("metadata that fail are said to be at fault, not the backing") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.status()["fault"].is_null());
    SUBCASE("left out") {
        pair.alpha.meta_faults.fail_writes(broken);
        REQUIRE(pair.volume().write(pattern(4096, 18), 0, Durability::cached));
        CHECK(pair.status()["fault"] == "metadata");
        CHECK(pair.status()["why"].get<std::string>().find("metadata") != std::string::npos);
    }
    SUBCASE("alone") {
        REQUIRE(pair.volume().write(pattern(4096, 18), 0, Durability::cached));
        pair.cut();
        REQUIRE(pair.wait_alone());
        pair.alpha.meta_faults.fail_writes(broken);
        REQUIRE_FALSE(pair.volume().write(pattern(4096, 19), 0, Durability::cached));
        CHECK(pair.status()["failed"] == true);
        CHECK(pair.status()["fault"] == "metadata");
    }
    SUBCASE("the backing") {
        pair.alpha.disk_faults.fail_writes(broken);
        REQUIRE(pair.volume().write(pattern(4096, 18), 0, Durability::cached));
        CHECK(pair.status()["fault"] == "backing");
    }
}

TEST_CASE("no space for metadata is an error while it lasts, and costs no replica") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.alpha.meta_faults.fail_writes(full);
    const auto written = pair.volume().write(pattern(4096, 18), 0, Durability::cached);
    REQUIRE_FALSE(written);
    CHECK(written.error().kind == ErrorKind::no_space);
    CHECK(written.error().remedy.find("free space in") != std::string::npos);
    CHECK(pair.status()["local_failed"] == false);
    CHECK(pair.mode() == "in-sync");
    pair.alpha.meta_faults.fail_writes({});
    REQUIRE(pair.volume().write(pattern(4096, 19), 0, Durability::cached));
    CHECK(pair.equal());
}

TEST_CASE(
    "metadata that cannot be written without the peer fail the write before any disk sees it") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    pair.alpha.meta_faults.fail_writes(broken);
    CHECK_FALSE(pair.volume().write(pattern(4096, 18), 0, Durability::cached));
    CHECK(content(pair.alpha.disk, {0, 4096}) == Bytes(4096));
    pair.alpha.meta_faults.fail_writes({});
    CHECK(pair.volume().write(pattern(4096, 18), 0, Durability::cached));
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a break that cannot be recorded fails the writes, and status says so") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 20), 0, Durability::cached));
    pair.cut();
    REQUIRE(pair.wait_alone());
    pair.alpha.meta_faults.fail_writes(broken);
    // Its region has its intent already: only the break is still to be written down.
    CHECK_FALSE(pair.volume().write(pattern(4096, 21), 0, Durability::cached));
    CHECK(pair.status()["failed"] == true);
    CHECK(pair.status()["why"].get<std::string>().find("beta is lost") != std::string::npos);
    pair.alpha.meta_faults.fail_writes({});
    CHECK(pair.volume().write(pattern(4096, 21), 0, Durability::cached));
    CHECK(pair.status()["failed"] == false);
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("an active whose disk and metadata failed can be demoted, and the peer may go on alone") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.alpha.disk_faults.fail_writes(broken);
    pair.alpha.meta_faults.fail_writes(broken);
    REQUIRE(pair.volume().write(pattern(4096, 22), 0, Durability::cached));
    (void)pair.ask({{"request", "quiesce"}});
    const Superblock there = superblock_on(*durable_image(pair.beta.meta));
    CHECK(there.last_active);
    CHECK(there.state == ReplicaState::up_to_date);
    CHECK(content(*durable_image(pair.beta.disk), {0, 4096}) == pattern(4096, 22));
    // alpha could not write down that it failed; what beta tells is enough.
    Superblock here = superblock_on(pair.alpha.meta);
    here.role = Role::standby;
    CHECK(here.state == ReplicaState::up_to_date);
    ReplicaSummary active = summarize(there, 0, 0);
    active.role = Role::active;
    CHECK(decide(active, summarize(here, MiB, 0)).action == Action::full_to_peer);
}

TEST_CASE("with the local replica left out nothing is answered once the peer is lost") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    Barrier barrier;
    pair.beta.disk_faults.before_write([&] { barrier.wait(); });
    std::atomic<bool> failed{false};
    std::thread writer(
        [&] { failed = !pair.volume().write(pattern(4096, 23), MiB, Durability::cached); });
    CHECK(eventually([&] { return barrier.arrived() == 1; }));
    // In flight with both; then the local replica is left out for another reason; then the peer
    // is lost before it answers.
    pair.alpha.meta_faults.fail_writes(broken);
    std::thread other(
        [&] { (void)pair.volume().write(pattern(4096, 25), 3 * MiB, Durability::cached); });
    CHECK(eventually([&] { return pair.status()["local_failed"] == true; }));
    // Even where that could be recorded.
    pair.alpha.meta_faults.fail_writes({});
    pair.server().sever();
    barrier.open();
    writer.join();
    other.join();
    CHECK(failed);
    CHECK_FALSE(pair.volume().flush());
    CHECK(pair.status()["failed"] == true);
}

TEST_CASE("a standby that cannot read a region to compare it gets all of it") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(64 * KiB, 24), MiB, Durability::cached));
    pair.cut();
    REQUIRE(pair.wait_alone());
    pair.beta.disk.damage(MiB + 5000, std::byte{1});
    pair.beta.disk.fail_reads({MiB + 4096, 4096});
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("sent_bytes") >= 64 * KiB);
    const auto media = pair.replica().media();
    CHECK(media.read_errors >= 1);
    pair.beta.disk.fail_reads({});
    CHECK(pair.equal());
}

TEST_CASE("a standby that refuses the session's end of resync is tried again") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 19), 0, Durability::cached));
    std::atomic<int> refusals{3};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "session-synced" && refusals-- > 0) {
            return Failure(broken);
        }
        return {};
    });
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(refusals < 0);
    CHECK(pair.equal());
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::up_to_date);
}

TEST_CASE("a write that is answered alone while a session begins makes it begin again") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    std::atomic<int> begins{0};
    std::atomic<bool> overwritten_unawares{false};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "session-begin" && ++begins == 1) {
            return pair.volume().write(pattern(4096, 20), MiB, Durability::cached);
        }
        return {};
    });
    pair.beta.disk_faults.before_write([&] {
        if (superblock_on(pair.beta.meta).state != ReplicaState::inconsistent) {
            overwritten_unawares = true;
        }
    });
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(begins == 2);
    CHECK_FALSE(overwritten_unawares);
    CHECK(pair.equal());
}

TEST_CASE("a resync for which there is no thread is tried again, and ends nothing else") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 30), MiB, Durability::cached));
    {
        const NoThreads none;
        (void)pair.ask({{"request", "resync"}, {"full", true}});
        CHECK(pair.wait_alone());
    }
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}
