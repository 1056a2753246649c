// SPDX-License-Identifier: BSD-3-Clause
// A disk that does not answer: the store that stops waiting, and the engine on top of it.
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include <doctest/doctest.h>

#include "core/store/timed_store.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

/// A disk in memory behind a TimedStore, and whether the disk may be given up.
struct TimedDisk {
    explicit TimedDisk(std::chrono::milliseconds timeout)
        : patience(std::make_shared<DiskPatience>(timeout)),
          store(std::make_unique<TimedStore>(machine.open_disk(), patience, "the disk")) {
        patience->set_judge([this](const Error&) {
            ++asked;
            return may_give_up.load();
        });
    }
    Machine machine{MiB, MiB};
    std::atomic<bool> may_give_up{true};
    std::atomic<int> asked{0};
    std::shared_ptr<DiskPatience> patience;
    std::unique_ptr<TimedStore> store;
};

}  // namespace

TEST_CASE("a disk that answers is used as if nothing stood in between") {
    TimedDisk disk(60s);
    CHECK(disk.store->size() == MiB);
    REQUIRE(disk.store->write(pattern(64 * KiB, 1), 4096));
    CHECK(content(*disk.store, {4096, 64 * KiB}) == pattern(64 * KiB, 1));
    REQUIRE(disk.store->zero({4096, 4096}, Space::may_free));
    CHECK(content(*disk.store, {4096, 4096}) == Bytes(4096));
    REQUIRE(disk.store->flush());
    CHECK(disk.machine.disk.unflushed() == 0);
    const auto extents = disk.store->extents({0, MiB});
    REQUIRE(extents);
    CHECK(extents->front().hole);
    CHECK(disk.store->hole_length({64 * KiB + 4096, 4096}) == 4096);
    disk.machine.disk_faults.fail_writes(Error{ErrorKind::no_space, "full"});
    CHECK(disk.store->write(pattern(512, 2), 0).error().kind == ErrorKind::no_space);
    CHECK(disk.asked == 0);
}

TEST_CASE("many threads use a timed disk at once") {
    TimedDisk disk(60s);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 8; ++i) {
        threads.emplace_back([&, i] {
            for (unsigned round = 0; round < 200; ++round) {
                REQUIRE(disk.store->write(pattern(4096, i + round), i * 4096));
                CHECK(content(*disk.store, {i * 4096, 4096}) == pattern(4096, i + round));
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST_CASE(
    "a disk that hangs is given up, for good, and what hung lands later from its own buffer") {
    Barrier barrier;
    TimedDisk disk(30ms);
    disk.machine.disk_faults.before_write([&] { barrier.wait(); });
    Bytes data = pattern(4096, 3);
    CHECK(disk.store->write(data, 0).error().kind == ErrorKind::timed_out);
    CHECK(disk.asked >= 1);
    CHECK(disk.patience->silent_since() != SteadyTime{});
    std::fill(data.begin(), data.end(), std::byte{0});
    const auto begun = std::chrono::steady_clock::now();
    CHECK(disk.store->read(data, 8192).error().kind == ErrorKind::timed_out);
    CHECK(disk.store->flush().error().kind == ErrorKind::timed_out);
    CHECK(std::chrono::steady_clock::now() - begun < 10s);
    disk.machine.disk_faults.before_write({});
    barrier.open();
    CHECK(eventually([&] { return content(disk.machine.disk, {0, 4096}) == pattern(4096, 3); }));
    CHECK_FALSE(disk.store->write(data, 0));
}

TEST_CASE("a disk that may not be given up is waited for") {
    Barrier barrier;
    TimedDisk disk(20ms);
    disk.may_give_up = false;
    disk.machine.disk_faults.before_write([&] { barrier.wait(); });
    std::atomic<bool> answered{false};
    std::thread writer([&] {
        CHECK(disk.store->write(pattern(4096, 4), 0));
        answered = true;
    });
    CHECK(eventually([&] { return disk.asked >= 3; }));
    CHECK_FALSE(answered);
    barrier.open();
    writer.join();
    CHECK(disk.patience->silent_since() == SteadyTime{});
    CHECK(disk.store->flush());
}

TEST_CASE("a local disk that hangs holds a write for disk_timeout; the peer's copy goes on") {
    Barrier barrier;
    MirrorPair pair({.disk_timeout = 200ms});
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(8192, 5), 0, Durability::cached));
    const Lineage before = superblock_on(pair.beta.meta).lineage;
    pair.alpha.disk_faults.before_write([&] { barrier.wait(); });
    Bytes data = pattern(4096, 6);
    const auto begun = std::chrono::steady_clock::now();
    CHECK(pair.volume().write(data, 0, Durability::cached));
    CHECK(std::chrono::steady_clock::now() - begun < 10s);
    std::fill(data.begin(), data.end(), std::byte{0});
    CHECK(content(pair.beta.disk, {0, 4096}) == pattern(4096, 6));
    CHECK(relate(superblock_on(*durable_image(pair.beta.meta)).lineage, before) == Relation::ahead);

    CHECK(pair.read({0, 4096}) == pattern(4096, 6));
    CHECK(pair.volume().write(pattern(4096, 7), MiB, Durability::fua));
    CHECK(pair.volume().flush());
    const auto status = pair.status();
    CHECK(status["local_failed"] == true);
    CHECK(status["media"]["timeouts"] == 1);
    CHECK(eventually([&] {
        const Superblock here = superblock_on(*durable_image(pair.alpha.meta));
        return here.state == ReplicaState::failed && !here.last_active;
    }));
    CHECK(eventually([&] { return superblock_on(*durable_image(pair.beta.meta)).last_active; }));

    pair.alpha.disk_faults.before_write({});
    barrier.open();
    CHECK(eventually([&] { return content(pair.alpha.disk, {0, 4096}) == pattern(4096, 6); }));
    // The disk is back, and not believed.
    CHECK(pair.volume().write(pattern(4096, 8), 0, Durability::cached));
    CHECK(content(pair.alpha.disk, {0, 4096}) == pattern(4096, 6));
    pair.cut();
    REQUIRE(pair.wait_alone());
    CHECK_FALSE(pair.volume().write(pattern(4096, 9), 0, Durability::cached));
}

TEST_CASE("a local disk that hangs in a read or a flush is left out too") {
    for (const bool by_flush : {false, true}) {
        Barrier barrier;
        MirrorPair pair({.disk_timeout = 100ms});
        REQUIRE(pair.wait_in_sync());
        REQUIRE(pair.volume().write(pattern(4096, 10), 0, Durability::cached));
        (by_flush ? pair.alpha.disk_faults : pair.alpha.meta_faults).before_flush([&] {
            barrier.wait();
        });
        if (by_flush) {
            CHECK(pair.volume().flush());
        } else {
            // A region without its intent: the metadata are flushed first.
            CHECK(pair.volume().write(pattern(4096, 11), 3 * MiB, Durability::cached));
        }
        CHECK(pair.status()["local_failed"] == true);
        CHECK(pair.read({0, 4096}) == pattern(4096, 10));
        pair.alpha.disk_faults.before_flush({});
        pair.alpha.meta_faults.before_flush({});
        barrier.open();
    }
}

TEST_CASE("a local disk that hangs while the peer is away is waited for, and status says so") {
    Barrier barrier;
    MirrorPair pair({.disk_timeout = 50ms});
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    pair.alpha.disk_faults.before_write([&] { barrier.wait(); });
    std::atomic<bool> answered{false};
    std::thread writer([&] {
        CHECK(pair.volume().write(pattern(4096, 12), 0, Durability::cached));
        answered = true;
    });
    CHECK(eventually([&] {
        return pair.status()["why"].get<std::string>().find(
                   "waiting for it is the only safe choice") != std::string::npos;
    }));
    CHECK_FALSE(answered);
    pair.alpha.disk_faults.before_write({});
    barrier.open();
    writer.join();
    CHECK(pair.status()["why"].get<std::string>().find("waiting") == std::string::npos);
    CHECK(pair.status()["local_failed"] == false);
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a standby whose disk hangs refuses the next session instead of gathering requests") {
    Barrier barrier;
    MirrorPair pair({.peer_timeout = 300ms});
    REQUIRE(pair.wait_in_sync());
    pair.beta.disk_faults.before_write([&] { barrier.wait(); });
    CHECK(pair.volume().write(pattern(4096, 13), 0, Durability::cached));
    CHECK(pair.mode() != "in-sync");
    const auto refused = pair.replica().begin_session({random_id<SessionId>(), "alpha", true, 1});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind == ErrorKind::busy);
    // Whoever only looks is not held up.
    CHECK(pair.replica().summary().state == ReplicaState::up_to_date);
    CHECK_FALSE(pair.replica().session());
    pair.beta.disk_faults.before_write({});
    barrier.open();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}
