// SPDX-License-Identifier: BSD-3-Clause
// The engine and a standby together: what reaches whom, and what is durable when.
#include <atomic>
#include <future>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

bool all_zero(const Bytes& bytes) {
    return bytes == Bytes(bytes.size());
}

}  // namespace

TEST_CASE("a write reaches both replicas and is read back") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Bytes data = pattern(10000, 1);
    REQUIRE(pair.volume().write(data, MiB - 5000, Durability::cached));
    CHECK(pair.read({MiB - 5000, data.size()}) == data);
    CHECK(content(pair.beta.disk, {MiB - 5000, data.size()}) == data);
    CHECK(pair.equal());
}

TEST_CASE("zeroed and trimmed ranges read as zeroes on both replicas") {
    for (const Space space : {Space::may_free, Space::keep_allocated}) {
        MirrorPair pair;
        REQUIRE(pair.wait_in_sync());
        REQUIRE(pair.volume().write(pattern(2 * MiB, 2), MiB, Durability::cached));
        const ByteRange range{MiB + 700, 300 * KiB + 100};
        REQUIRE(pair.volume().zero(range, space, Durability::cached));
        CHECK(all_zero(pair.read(range)));
        CHECK(all_zero(content(pair.beta.disk, range)));
        CHECK_FALSE(all_zero(content(pair.beta.disk, {MiB, 700})));
        CHECK(pair.equal());
    }
}

TEST_CASE("an answered flush is durable on both replicas") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Bytes data = pattern(200 * KiB, 3);
    REQUIRE(pair.volume().write(data, 64 * KiB, Durability::cached));
    REQUIRE(pair.volume().flush());
    for (MemoryDisk* disk : {&pair.alpha.disk, &pair.beta.disk}) {
        CHECK(content(*durable_image(*disk), {64 * KiB, data.size()}) == data);
    }
}

TEST_CASE("an answered FUA change is durable on both replicas") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Bytes data = pattern(40 * KiB, 4);
    REQUIRE(pair.volume().write(data, 64 * KiB, Durability::fua));
    for (MemoryDisk* disk : {&pair.alpha.disk, &pair.beta.disk}) {
        CHECK(content(*durable_image(*disk), {64 * KiB, data.size()}) == data);
    }
    REQUIRE(pair.volume().zero({68 * KiB, 4 * KiB}, Space::may_free, Durability::fua));
    for (MemoryDisk* disk : {&pair.alpha.disk, &pair.beta.disk}) {
        CHECK(all_zero(content(*durable_image(*disk), {68 * KiB, 4 * KiB})));
    }
}

TEST_CASE("overlapping writes of many threads end the same on both replicas") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (unsigned id = 0; id < 8; ++id) {
        threads.emplace_back([&pair, &failures, id] {
            std::minstd_rand random(id + 1);
            for (unsigned i = 0; i < 150; ++i) {
                const Bytes data = pattern(512 * (1 + random() % 40), id * 1000 + i);
                const std::uint64_t offset = MiB - 16 * KiB + 512 * (random() % 64);
                failures += pair.volume().write(data, offset, Durability::cached) ? 0 : 1;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(failures == 0);
    CHECK(pair.equal());
    CHECK(pair.mode() == "in-sync");
}

TEST_CASE("writes go on without the standby, and exactly what changed is sent when it returns") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(3 * MiB, 5), 0, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(512, 6), 10 * KiB, Durability::cached));  // 1 block
    REQUIRE(pair.volume().write(pattern(8192, 7), MiB - 6144, Durability::fua));  // 3 blocks
    REQUIRE(pair.volume().write(pattern(4096, 8), pair_size - 4096, Durability::cached));  // 1
    REQUIRE(pair.volume().zero({2 * MiB, 8192}, Space::may_free, Durability::cached));     // 2
    CHECK_FALSE(pair.equal());
    CHECK(pair.status()["peer"]["behind_bytes"] == 7 * block_size);
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("sent_blocks") == 7);
    CHECK(pair.last_resync("compared_bytes") == 0);
    CHECK(pair.equal());
    CHECK(relate(superblock_on(pair.beta.meta).lineage, superblock_on(pair.alpha.meta).lineage) ==
          Relation::equal);
}

TEST_CASE("the lineage grows with the first write alone, durably before its answer") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const auto durable = [&] { return superblock_on(*durable_image(pair.alpha.meta)); };
    REQUIRE(pair.volume().write(pattern(4096, 9), 0, Durability::cached));
    const GenerationId first = durable().lineage.current();

    pair.cut();
    REQUIRE(pair.wait_alone());
    (void)pair.read({0, 4096});
    CHECK(durable().lineage.current() == first);
    CHECK_FALSE(durable().solo);

    REQUIRE(pair.volume().write(pattern(4096, 10), 8192, Durability::cached));
    const Superblock alone = durable();
    CHECK(alone.solo);
    CHECK(alone.lineage.current() != first);
    CHECK(alone.lineage.contains(first));
    CHECK(alone.lineage.entries().front().reason == GenerationReason::peer_lost);
    REQUIRE(pair.volume().write(pattern(4096, 11), 16384, Durability::cached));
    CHECK(durable().lineage == alone.lineage);

    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(relate(superblock_on(*durable_image(pair.beta.meta)).lineage, alone.lineage) ==
          Relation::equal);
    CHECK_FALSE(durable().solo);
}

TEST_CASE("an idle break begins no generation") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Lineage before = superblock_on(pair.alpha.meta).lineage;
    pair.cut();
    REQUIRE(pair.wait_alone());
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(superblock_on(pair.alpha.meta).lineage == before);
}

TEST_CASE("a write that the standby had not answered at the break is marked") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().checkpoint());
    Barrier barrier;
    pair.beta.disk_faults.before_write([&] { barrier.wait(); });
    Result<void> answer;
    std::thread writer(
        [&] { answer = pair.volume().write(pattern(4096, 12), 2 * MiB, Durability::cached); });
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    pair.server().sever();
    writer.join();
    CHECK(answer);
    CHECK(pair.status()["peer"]["behind_bytes"] >= block_size);
    CHECK(superblock_on(*durable_image(pair.alpha.meta)).solo);
    REQUIRE(pair.volume().checkpoint());
    CHECK(map_on(pair.alpha.meta, MapKind::changed).test(2 * MiB / block_size));
    barrier.open();
    pair.beta.disk_faults.before_write({});
    pair.cut();
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("after a crash of the engine only regions with intents are compared") {
    MirrorPair pair({.size = 16 * MiB});
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(12 * MiB, 13), 0, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    REQUIRE(pair.volume().write(pattern(4096, 14), 3 * MiB, Durability::cached));
    pair.crash_active();
    CHECK(map_on(pair.alpha.meta, MapKind::intent).count() == 1);
    // What a write in flight would have left: on one disk alone.
    REQUIRE(pair.alpha.disk.open()->write(pattern(4096, 15), 3 * MiB + 128 * KiB));
    pair.start_again();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("compared_bytes") == region_size);
    CHECK(pair.last_resync("sent_bytes") == digest_block_size);
    CHECK(pair.equal());
}

TEST_CASE("what the standby answered and lost with its power is sent again") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(300 * KiB, 16), 900 * KiB, Durability::cached));
    const Lineage before = superblock_on(pair.alpha.meta).lineage;
    pair.lose_power(Victim::beta, [](std::size_t) { return false; });
    CHECK_FALSE(pair.equal());
    pair.start_again();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
    // Equal generations proved nothing.
    CHECK(superblock_on(pair.alpha.meta).lineage == before);
}

TEST_CASE("what a former active wrote and nobody answered is rolled back") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(3 * MiB, 17), 0, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 18), 3 * MiB, Durability::cached));
    {
        auto meta = MetaFile::load(pair.beta.meta.open(), "beta");
        REQUIRE(meta);
        REQUIRE((*meta)->update([](Superblock& block) {
            block.unclean = true;
            block.last_active = true;
        }));
        Bitmap intent(map_bits(MapKind::intent, pair_size));
        intent.set({2, 3});
        REQUIRE((*meta)->write_map(MapKind::intent, intent));
        Bitmap changed(map_bits(MapKind::changed, pair_size));
        changed.set({7, 8});
        REQUIRE((*meta)->write_map(MapKind::changed, changed));
        REQUIRE((*meta)->sync());
        REQUIRE(pair.beta.disk.open()->write(pattern(9000, 19), 2 * MiB + 5000));
        REQUIRE(pair.beta.disk.open()->write(pattern(4096, 20), 7 * block_size));
    }
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("compared_bytes") == 2 * region_size);
    CHECK(pair.equal());
    const Superblock after = superblock_on(pair.beta.meta);
    CHECK_FALSE(after.unclean);
    CHECK_FALSE(after.last_active);
    CHECK(after.state == ReplicaState::up_to_date);
    for (const MapKind kind : {MapKind::intent, MapKind::suspect, MapKind::changed}) {
        CHECK(map_on(pair.beta.meta, kind).empty());
    }
}

TEST_CASE("an interrupted resync goes on where it was") {
    constexpr std::uint64_t size = 32 * MiB;
    MirrorPair pair({.size = size});
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(size, 21), 0, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    std::atomic<bool> severed{false};
    pair.beta.disk_faults.before_write([&] {
        const control::Json resync = pair.status()["peer"]["resync"];
        if (resync.is_object() && resync["sent_bytes"] >= 5 * MiB && !severed.exchange(true)) {
            pair.server().sever();
        }
    });
    pair.restore();
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return severed && pair.mode() == "alone";
    }));
    REQUIRE(
        eventually([&] { return pair.status()["peer"]["last_resync"]["total_bytes"] == size; }));
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::inconsistent);
    const std::uint64_t first = pair.last_resync("sent_bytes");
    pair.beta.disk_faults.before_write({});
    pair.cut();
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
    const std::uint64_t second = pair.last_resync("sent_bytes");
    CHECK(first >= 4 * MiB);
    CHECK(first + second >= size);
    CHECK(first + second <= size + 5 * MiB);
    // Intents are entered for 4, 8 and 16 regions; the third time at the thirteenth region, which
    // may be under way when the first five are done.
    CHECK(pair.last_resync("compared_bytes") <= 28 * MiB);
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::up_to_date);
}

TEST_CASE("a resync makes the intents of many regions durable with one sync") {
    constexpr std::uint64_t size = 64 * MiB;
    MirrorPair pair({.size = size});
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(size, 33), 0, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    std::atomic<unsigned> flushes{0};
    pair.alpha.meta_faults.before_flush([&] { ++flushes; });
    // Of the checkpoints that time brings, which clear the intents, one at most is done meanwhile.
    Barrier checkpoint;
    pair.alpha.disk_faults.before_flush([&] { checkpoint.wait(); });
    pair.restore();
    REQUIRE(eventually([&] { return pair.status()["peer"]["last_resync"]["sent_bytes"] == size; }));
    checkpoint.open();
    pair.alpha.disk_faults.before_flush({});
    REQUIRE(pair.wait_in_sync());
    CHECK(flushes < size / region_size / 4);
    CHECK(pair.equal());
}

TEST_CASE(
    "a full resync of holes reads nothing here, and sends what the standby has in their place") {
    constexpr std::uint64_t size = 8 * MiB;
    MirrorPair pair({.size = size});
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 34), 5 * MiB, Durability::cached));
    REQUIRE(pair.volume().flush());
    pair.beta.disk.damage(3 * MiB + 70000, std::byte{1});
    const std::uint64_t before = pair.alpha.disk.bytes_read();
    (void)pair.ask({{"request", "resync"}, {"full", true}});
    REQUIRE(
        eventually([&] { return pair.status()["peer"]["last_resync"]["compared_bytes"] == size; }));
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.alpha.disk.bytes_read() - before == 2 * MiB);
    CHECK(pair.equal());
}

TEST_CASE("a full resync finds a difference that no map knows") {
    for (const bool in_session : {true, false}) {
        MirrorPair pair;
        REQUIRE(pair.wait_in_sync());
        REQUIRE(pair.volume().write(pattern(pair_size, 22), 0, Durability::cached));
        pair.beta.disk.damage(pair_size - 1, std::byte{4});
        if (!in_session) {
            REQUIRE(pair.volume().checkpoint());
            pair.cut();
            REQUIRE(pair.wait_alone());
        }
        (void)pair.ask({{"request", "resync"}, {"full", true}});
        if (!in_session) {
            pair.restore();
        }
        REQUIRE(eventually([&] { return pair.equal(); }));
        REQUIRE(pair.wait_in_sync());
        REQUIRE(eventually([&] { return pair.last_resync("compared_bytes") == pair_size; }));
        CHECK(pair.last_resync("sent_blocks") == 5);  // the last, shorter digest block
    }
}

TEST_CASE(
    "a disconnect leaves a stale standby, and the next connect sends what was written since") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(3 * MiB, 23), 0, Durability::cached));
    (void)pair.ask({{"request", "disconnect"}});
    CHECK(pair.mode() == "alone");
    CHECK(pair.status()["why"].get<std::string>().find("disconnected by") != std::string::npos);
    CHECK(superblock_on(*durable_image(pair.beta.meta)).state == ReplicaState::stale);
    CHECK(map_on(pair.alpha.meta, MapKind::intent).empty());
    CHECK(content(*durable_image(pair.beta.disk), {0, 3 * MiB}) == pattern(3 * MiB, 23));
    REQUIRE(pair.volume().write(pattern(4096, 24), MiB, Durability::cached));
    CHECK_FALSE(pair.equal());
    (void)pair.ask({{"request", "connect"}});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("sent_blocks") == 1);
    CHECK(pair.last_resync("compared_bytes") == 0);
    CHECK(pair.equal());
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::up_to_date);
}

TEST_CASE("after a connect a peer that is out of reach is not said to be disconnected by hand") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    (void)pair.ask({{"request", "disconnect"}});
    pair.cut();
    (void)pair.ask({{"request", "connect"}});
    CHECK(pair.status()["why"].get<std::string>().find("has not replied yet") != std::string::npos);
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("quiesce makes everything durable on both replicas and leaves no intents") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Bytes data = pattern(pair_size, 25);
    REQUIRE(pair.volume().write(data, 0, Durability::cached));
    (void)pair.ask({{"request", "quiesce"}});
    for (MemoryDisk* disk : {&pair.alpha.disk, &pair.beta.disk}) {
        CHECK(content(*durable_image(*disk), {0, pair_size}) == data);
    }
    const auto meta = durable_image(pair.alpha.meta);
    CHECK(map_on(*meta, MapKind::intent).empty());
    CHECK(map_on(*meta, MapKind::suspect).empty());
    const Superblock block = superblock_on(*meta);
    CHECK(block.role == Role::standby);
    CHECK_FALSE(block.unclean);
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::up_to_date);
    CHECK(pair.volume().write(data, 0, Durability::cached).error().kind == ErrorKind::refused);
}

TEST_CASE("quiesce refuses while a client is connected") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.volume().client_opened();
    const auto refused = pair.volume().handle({{"request", "quiesce"}});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind == ErrorKind::busy);
    CHECK(pair.volume().write(pattern(512, 26), 0, Durability::cached));
    (void)pair.ask({{"request", "quiesce"}, {"disconnect_clients", true}});
    pair.volume().client_closed();
}

TEST_CASE("quiesce waits for a client that is just leaving") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.volume().client_opened();
    std::promise<void> begun;
    std::thread leaving([&] {
        begun.get_future().wait();
        pair.volume().client_closed();
    });
    begun.set_value();
    CHECK(pair.volume().handle({{"request", "quiesce"}}));
    leaving.join();
}

TEST_CASE("a resync of a standby under load ends equal") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(pair_size, 27), 0, Durability::cached));
    std::atomic<bool> stop{false};
    std::atomic<int> failures{0};
    std::vector<std::thread> threads;
    for (unsigned id = 0; id < 3; ++id) {
        threads.emplace_back([&, id] {
            std::minstd_rand random(id + 1);
            for (unsigned i = 0; !stop; ++i) {
                const Bytes data = pattern(512 * (1 + random() % 100), id * 1000 + i);
                const std::uint64_t offset = 512 * (random() % (4 * MiB / 512 - 100));
                failures += pair.volume().write(data, offset, Durability::cached) ? 0 : 1;
            }
        });
    }
    for (int i = 0; i < 5; ++i) {
        pair.restore();
        CHECK(pair.wait_in_sync());
        pair.cut();
        CHECK(pair.wait_alone());
    }
    pair.restore();
    CHECK(pair.wait_in_sync());
    stop = true;
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(failures == 0);
    CHECK(pair.wait_in_sync());
    CHECK(pair.equal());
}
