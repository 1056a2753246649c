// SPDX-License-Identifier: BSD-3-Clause
// Requests of a session that is over, and whose local half ends only during the next one: that the
// peer was left out of them is on record before they are answered, and the next session takes it
// into account.
#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

void lose_session_with_peer_silent(MirrorPair& pair) {
    pair.cut();
    REQUIRE(pair.wait_alone());
}

}  // namespace

TEST_CASE("a write of the old session that settles during the next resync is on record first") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    // The first write of a session asks the standby something, which is not to be held up below.
    REQUIRE(pair.volume().write(pattern(4096, 9), 64 * KiB, Durability::cached));
    const Lineage before = superblock_on(pair.alpha.meta).lineage;
    Barrier local;
    Barrier there;
    pair.alpha.disk_faults.before_write([&] { local.wait(); });
    pair.server().be_silent(true);
    Superblock at_answer;
    std::thread writer([&] {
        CHECK(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
        at_answer = superblock_on(*durable_image(pair.alpha.meta));
    });
    REQUIRE(eventually([&] { return local.arrived() == 1; }));
    lose_session_with_peer_silent(pair);
    // The block must be sent, so the resync can't end before this is opened.
    pair.beta.disk_faults.before_write([&] { there.wait(); });
    pair.restore();
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return pair.mode() == "syncing";
    }));
    // What is written to there is not compared before it is written.
    CHECK_FALSE(eventually([&] { return pair.mode() == "in-sync"; }, 300ms));
    local.open();
    writer.join();
    CHECK(at_answer.solo);
    CHECK(at_answer.lineage.current() != before.current());
    CHECK(at_answer.lineage.contains(before.current()));
    pair.alpha.disk_faults.before_write({});
    pair.beta.disk_faults.before_write({});
    there.open();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
    CHECK(relate(superblock_on(*durable_image(pair.beta.meta)).lineage,
                 superblock_on(pair.alpha.meta).lineage) == Relation::equal);
}

TEST_CASE("a generation that begins while the standby is told that it is equal is told to it too") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    const Lineage before = superblock_on(pair.alpha.meta).lineage;
    Barrier local;
    Barrier telling;
    std::atomic<bool> told{false};
    pair.alpha.disk_faults.before_flush([&] { local.wait(); });
    pair.server().be_silent(true);
    Superblock at_answer;
    std::thread flusher([&] {
        CHECK(pair.volume().flush());
        at_answer = superblock_on(*durable_image(pair.alpha.meta));
    });
    REQUIRE(eventually([&] { return local.arrived() >= 1; }));
    lose_session_with_peer_silent(pair);
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "session-synced" && !told.exchange(true)) {
            telling.wait();
        }
        return {};
    });
    pair.restore();
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return telling.arrived() == 1;
    }));
    local.open();
    flusher.join();
    CHECK(at_answer.solo);
    CHECK(at_answer.lineage.contains(before.current()));
    pair.alpha.disk_faults.before_flush({});
    telling.open();
    REQUIRE(pair.wait_in_sync());
    const Superblock here = superblock_on(pair.alpha.meta);
    CHECK(relate(superblock_on(*durable_image(pair.beta.meta)).lineage, here.lineage) ==
          Relation::equal);
    CHECK(here.lineage.contains(at_answer.lineage.current()));
    CHECK_FALSE(here.solo);
    CHECK(pair.equal());
}

TEST_CASE(
    "the standby is told that it is equal only when the next write alone would be on record") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 1), MiB, Durability::cached));
    REQUIRE(superblock_on(pair.alpha.meta).solo);
    const Error broken{ErrorKind::io, "the disk is broken", {}, 5};
    std::atomic<int> told{0};
    // From the last block that is sent to the next session nothing can be written down on alpha.
    pair.beta.disk_faults.before_write([&] { pair.alpha.meta_faults.fail_writes(broken); });
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "handshake") {
            pair.alpha.meta_faults.fail_writes({});
        }
        if (what == "session-synced") {
            ++told;
            CHECK_FALSE(superblock_on(*durable_image(pair.alpha.meta)).solo);
        }
        return {};
    });
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(told >= 1);
    CHECK_FALSE(superblock_on(*durable_image(pair.alpha.meta)).solo);
    CHECK(pair.equal());
}

TEST_CASE("what a resync sent and the standby lost with its power is sent again") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 1), MiB, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    Barrier barrier;
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "session-synced") {
            barrier.wait();
        }
        return {};
    });
    pair.restore();
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return barrier.arrived() == 1;
    }));
    REQUIRE(content(pair.beta.disk, {MiB, 4096}) == pattern(4096, 1));
    pair.beta.power->cut();
    pair.server().on_request({});
    barrier.open();
    pair.lose_power(Victim::beta, [](std::size_t) { return false; });
    REQUIRE(content(pair.beta.disk, {MiB, 4096}) == Bytes(4096));
    pair.start_again();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a checkpoint in the middle of a resync does not forget what is on its way") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 1), MiB, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    Barrier writing;
    Barrier telling;
    std::atomic<bool> came{false};
    pair.beta.disk_faults.before_write([&] {
        if (!came.exchange(true)) {
            writing.wait();
        }
    });
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "session-synced") {
            telling.wait();
        }
        return {};
    });
    pair.restore();
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return writing.arrived() == 1;
    }));
    std::atomic<bool> is_done{false};
    std::thread checkpoint([&] {
        (void)pair.volume().checkpoint();
        is_done = true;
    });
    // beta's flush would be before that write: so the checkpoint has to wait for it.
    CHECK_FALSE(eventually([&] { return is_done.load(); }, 300ms));
    writing.open();
    REQUIRE(eventually([&] { return telling.arrived() == 1; }));
    checkpoint.join();
    pair.beta.power->cut();
    pair.server().on_request({});
    telling.open();
    pair.lose_power(Victim::beta, [](std::size_t) { return false; });
    pair.start_again();
    REQUIRE(pair.wait_in_sync());
    CHECK(content(pair.beta.disk, {MiB, 4096}) == pattern(4096, 1));
    CHECK(pair.equal());
}
