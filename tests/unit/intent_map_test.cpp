// SPDX-License-Identifier: BSD-3-Clause
#include "core/maps/intent_map.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace mirror;
using namespace std::chrono_literals;

namespace {

using Clear = IntentMap::Clear;

constexpr std::uint64_t regions = 2 * Bitmap::chunk_bits + 100;
constexpr std::uint64_t volume_size = regions * region_size;

ByteRange region(std::uint64_t number, std::uint64_t count = 1) {
    return {number * region_size, count * region_size};
}

/// Stands in for the durable map: counts, blocks and fails as it is told.
class Disk {
  public:
    [[nodiscard]] IntentMap::Persist persist() {
        return [this](const Bitmap& bits, const std::vector<std::uint64_t>& chunks) {
            return write(bits, chunks);
        };
    }
    [[nodiscard]] bool has(BitRange range) {
        MutexLock lock(mutex_);
        return bits_.all(range);
    }
    [[nodiscard]] std::uint64_t count() {
        MutexLock lock(mutex_);
        return bits_.count();
    }
    [[nodiscard]] std::uint64_t writes() {
        MutexLock lock(mutex_);
        return writes_;
    }
    void block(bool blocked) {
        MutexLock lock(mutex_);
        blocked_ = blocked;
        changed_.notify_all();
    }
    void wait_for_writes(std::uint64_t number) {
        MutexLock lock(mutex_);
        while (writes_ < number) {
            changed_.wait(lock);
        }
    }
    /// A failing write may still reach the disk.
    void break_it(bool broken, bool writes_anyway = false) {
        MutexLock lock(mutex_);
        broken_ = broken;
        writes_anyway_ = writes_anyway;
    }

  private:
    Result<void> write(const Bitmap& bits, const std::vector<std::uint64_t>& chunks) {
        MutexLock lock(mutex_);
        ++writes_;
        changed_.notify_all();
        CHECK(++writers_ == 1);
        while (blocked_) {
            changed_.wait(lock);
        }
        if (!broken_ || writes_anyway_) {
            for (std::uint64_t i : chunks) {
                bits_.set_chunk(i, bits.chunk(i) != nullptr ? *bits.chunk(i) : Bitmap::Chunk{});
            }
        }
        --writers_;
        if (broken_) {
            return fail(ErrorKind::io, "the map can't be written");
        }
        return {};
    }

    Mutex mutex_;
    CondVar changed_;
    Bitmap bits_ GUARDED_BY(mutex_){regions};
    std::uint64_t writes_ GUARDED_BY(mutex_) = 0;
    int writers_ GUARDED_BY(mutex_) = 0;
    bool blocked_ GUARDED_BY(mutex_) = false;
    bool broken_ GUARDED_BY(mutex_) = false;
    bool writes_anyway_ GUARDED_BY(mutex_) = false;
};

Result<void> nothing_to_settle() {
    return {};
}

void wait_until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while (!condition() && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
    }
    REQUIRE(condition());
}

}  // namespace

TEST_CASE("a region is durable when enter returns, and costs one write while it stays") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    {
        const auto entered = map.enter(region(5, 3));
        REQUIRE(entered);
        CHECK(disk.has({5, 8}));
        CHECK(disk.count() == 3);
    }
    for (int i = 0; i < 10; ++i) {
        CHECK(map.enter({6 * region_size + 4096, 4096}));
    }
    CHECK(disk.writes() == 1);
    CHECK(map.count() == 3);
}

TEST_CASE("a range across two chunks of the map is one write") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    CHECK(map.enter(region(Bitmap::chunk_bits - 1, 2)));
    CHECK(disk.has({Bitmap::chunk_bits - 1, Bitmap::chunk_bits + 1}));
    CHECK(disk.writes() == 1);
}

TEST_CASE("sixteen waiters cost two writes") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    disk.block(true);
    std::vector<std::thread> writers;
    for (std::uint64_t i = 0; i < 16; ++i) {
        writers.emplace_back([&, i] {
            const auto entered = map.enter(region(i * 500));
            CHECK(entered);
            CHECK(disk.has({i * 500, i * 500 + 1}));
        });
    }
    wait_until([&] { return map.count() == 16; });
    CHECK(disk.writes() == 1);
    CHECK(disk.count() == 0);
    disk.block(false);
    for (auto& writer : writers) {
        writer.join();
    }
    CHECK(disk.writes() == 2);
    CHECK(disk.count() == 16);
}

TEST_CASE("many first touches at once cost few syncs, the same regions again none") {
    constexpr std::uint64_t threads = 16;
    constexpr std::uint64_t touches = 20;
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    const auto touch_all = [&] {
        std::vector<std::thread> writers;
        for (std::uint64_t i = 0; i < threads; ++i) {
            writers.emplace_back([&, i] { CHECK(map.enter(region(i))); });
        }
        wait_until([&] { return map.count() == threads; });
        disk.block(false);
        for (auto& writer : writers) {
            writer.join();
        }
    };
    for (std::uint64_t round = 0; round < touches; ++round) {
        const std::uint64_t before = disk.writes();
        disk.block(true);  // a sync takes its time: whoever comes meanwhile shares the next one
        touch_all();
        CHECK(disk.writes() - before <= 2);
        const std::uint64_t in_steady_state = disk.writes();
        touch_all();
        CHECK(disk.writes() == in_steady_state);
        CHECK(map.checkpoint(Clear::all, nothing_to_settle));
        CHECK(disk.count() == 0);
    }
}

TEST_CASE("regions that are prepared together cost one sync, and entering them none") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    const std::array<BitRange, 3> runs{{{3, 5}, {9, 10}, {Bitmap::chunk_bits, regions}}};
    REQUIRE(map.prepare(runs));
    CHECK(disk.writes() == 1);
    for (const BitRange& run : runs) {
        CHECK(disk.has(run));
        CHECK(map.try_enter(region(run.first, run.last - run.first)));
    }
    CHECK(disk.count() == 3 + regions - Bitmap::chunk_bits);
    CHECK_FALSE(map.try_enter(region(8)));
    CHECK(disk.writes() == 1);
}

TEST_CASE("a checkpoint clears what was prepared and never entered") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    const std::array<BitRange, 1> runs{{{3, 5}}};
    REQUIRE(map.prepare(runs));
    REQUIRE(map.checkpoint(Clear::all, nothing_to_settle));
    CHECK(disk.count() == 0);
    CHECK_FALSE(map.try_enter(region(3)));
    CHECK(map.enter(region(3)));
    CHECK(disk.has({3, 4}));
}

TEST_CASE("what is written again and again keeps its intent, and what came to rest does not") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    CHECK(map.enter(region(3)));
    CHECK(map.enter(region(4)));
    REQUIRE(map.checkpoint(Clear::at_rest, nothing_to_settle));
    CHECK(disk.has({3, 5}));  // entered since the checkpoint before
    CHECK(map.try_enter(region(3)));
    REQUIRE(map.checkpoint(Clear::at_rest, nothing_to_settle));
    CHECK(disk.has({3, 4}));
    CHECK_FALSE(disk.has({4, 5}));
    CHECK_FALSE(map.try_enter(region(4)));
    REQUIRE(map.checkpoint(Clear::at_rest, [&]() -> Result<void> {
        CHECK(map.enter(region(7)));
        return {};
    }));
    CHECK(disk.count() == 1);
    CHECK(disk.has({7, 8}));
    CHECK(map.try_enter(region(7)));
    REQUIRE(map.checkpoint(Clear::all, nothing_to_settle));
    CHECK(disk.count() == 0);
}

TEST_CASE("preparing fails where the map can't be written, and so does entering") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    const std::array<BitRange, 1> runs{{{3, 5}}};
    disk.break_it(true);
    CHECK_FALSE(map.prepare(runs));
    CHECK_FALSE(map.enter(region(4)));
    disk.break_it(false);
    CHECK(map.prepare({}));
    CHECK(map.enter(region(4)));
    CHECK(disk.has({3, 5}));
}

TEST_CASE("however much time passes, an intent goes only when both replicas have flushed") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    CHECK(map.enter(region(1)));
    for (int round = 0; round < 100; ++round) {
        CHECK_FALSE(map.checkpoint(Clear::all, []() -> Result<void> {
            return fail(ErrorKind::unreachable, "the peer has not flushed");
        }));
        CHECK(disk.has({1, 2}));
    }
    CHECK(map.checkpoint(Clear::all, nothing_to_settle));
    CHECK(disk.count() == 0);
}

TEST_CASE("a checkpoint clears what was not entered since") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    CHECK(map.enter(region(1)));
    CHECK(map.enter(region(2)));
    std::optional<Result<IntentMap::Entered>> during;
    CHECK(map.checkpoint(Clear::all, [&]() -> Result<void> {
        CHECK(disk.has({1, 3}));
        during.emplace(map.enter(region(2)));
        return {};
    }));
    CHECK(!disk.has({1, 2}));
    CHECK(disk.has({2, 3}));
    CHECK(map.count() == 1);
    during.reset();
    CHECK(map.checkpoint(Clear::all, nothing_to_settle));
    CHECK(disk.count() == 0);
    CHECK(map.snapshot().empty());
}

TEST_CASE("a checkpoint waits for the writes that began before it, not for later ones") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    auto before = std::make_optional(map.enter(region(1)));
    std::atomic<bool> settled{false};
    auto checkpoint = std::async(std::launch::async, [&] {
        return map.checkpoint(Clear::all, [&]() -> Result<void> {
            settled = true;
            return {};
        });
    });
    CHECK(checkpoint.wait_for(20ms) == std::future_status::timeout);
    CHECK(!settled);
    before.reset();
    // From here on there is always a write in progress.
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    auto later = std::make_optional(map.enter(region(2)));
    while (checkpoint.wait_for(0s) != std::future_status::ready &&
           std::chrono::steady_clock::now() < deadline) {
        auto next = map.enter(region(2));
        later.emplace(std::move(next));
    }
    CHECK(settled);
    later.reset();
    CHECK(checkpoint.get());
    CHECK(!disk.has({1, 2}));
}

TEST_CASE("a failed settling clears nothing") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    CHECK(map.enter(region(1)));
    const auto result = map.checkpoint(
        Clear::all, []() -> Result<void> { return fail(ErrorKind::io, "no flush"); });
    CHECK(result.error().message == "no flush");
    CHECK(disk.has({1, 2}));
    CHECK(map.count() == 1);
    CHECK(map.checkpoint(Clear::all, nothing_to_settle));
    CHECK(disk.count() == 0);
}

TEST_CASE("whoever enters a region that is just being cleared waits until it is back") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    CHECK(map.enter(region(1)));
    disk.block(true);
    auto checkpoint = std::async(std::launch::async,
                                 [&] { return map.checkpoint(Clear::all, nothing_to_settle); });
    disk.wait_for_writes(2);  // the clearing is on its way
    auto writer = std::async(std::launch::async, [&] {
        const auto entered = map.enter(region(1));
        return entered.has_value() && disk.has({1, 2});
    });
    wait_until([&] { return map.count() == 1; });
    CHECK(writer.wait_for(20ms) == std::future_status::timeout);
    disk.block(false);
    CHECK(writer.get());
    CHECK(checkpoint.get());
    CHECK(disk.writes() == 3);
}

TEST_CASE("a checkpoint leaves alone what was entered without waiting since it began") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    CHECK(map.enter(region(1, 2)));
    std::optional<IntentMap::Entered> writing;
    for (const Clear what : {Clear::all, Clear::at_rest, Clear::all}) {
        writing.reset();  // a checkpoint waits for what began before it
        REQUIRE(map.checkpoint(what, [&]() -> Result<void> {
            if (auto entered = map.try_enter(region(1))) {
                writing.emplace(std::move(*entered));
            }
            return {};
        }));
        CHECK(writing);
        CHECK(disk.has({1, 2}));
    }
    CHECK_FALSE(disk.has({2, 3}));
}

TEST_CASE("nobody enters at once what a checkpoint has dropped and not cleared yet") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    CHECK(map.enter(region(1)));
    CHECK(map.try_enter(region(1)));
    disk.block(true);
    // Another writer's commit is under way, so that the clearing has to wait for it. It settles
    // only once it is, and that writer is none that it waits for.
    std::future<bool> other;
    auto checkpoint = std::async(std::launch::async, [&] {
        return map.checkpoint(Clear::all, [&]() -> Result<void> {
            other =
                std::async(std::launch::async, [&] { return map.enter(region(9)).has_value(); });
            disk.wait_for_writes(2);
            return {};
        });
    });
    wait_until([&] { return !map.snapshot().test(1); });
    REQUIRE(disk.has({1, 2}));
    // It is on the disk still, and will be gone from there while the write is in progress.
    CHECK_FALSE(map.try_enter(region(1)));
    CHECK_FALSE(map.try_enter(region(0, 3)));
    disk.block(false);
    CHECK(checkpoint.get());
    CHECK(other.get());
    CHECK_FALSE(disk.has({1, 2}));
    CHECK_FALSE(map.try_enter(region(1)));
    CHECK(map.enter(region(1)));
    CHECK(map.try_enter(region(1)));
}

TEST_CASE("a map that can't be written fails the writers, and the next try includes them") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    disk.break_it(true);
    const auto failed = map.enter(region(1));
    REQUIRE(!failed);
    CHECK(failed.error().message == "the map can't be written");
    CHECK(map.count() == 1);
    CHECK(!map.enter(region(1)));
    disk.break_it(false);
    CHECK(map.enter(region(9)));
    CHECK(disk.has({1, 2}));
    CHECK(map.checkpoint(Clear::all,
                         nothing_to_settle));  // the failed ones left no write in progress
    CHECK(disk.count() == 0);
}

TEST_CASE("a region whose intent could not be written is entered when the map can be written") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    disk.break_it(true);
    CHECK_FALSE(map.enter(region(1)));
    CHECK_FALSE(map.try_enter(region(1)));
    disk.break_it(false);
    CHECK(map.enter(region(1)));
    CHECK(disk.has({1, 2}));
}

TEST_CASE("a clearing that failed counts as not durable, whatever reached the disk") {
    for (bool reached : {false, true}) {
        CAPTURE(reached);
        Disk disk;
        IntentMap map(volume_size, disk.persist());
        CHECK(map.enter(region(1)));
        disk.break_it(true, reached);
        CHECK(!map.checkpoint(Clear::all, nothing_to_settle));
        CHECK(!map.enter(region(1)));
        disk.break_it(false);
        CHECK(map.enter(region(1)));
        CHECK(disk.has({1, 2}));
    }
}

TEST_CASE("writers all at once: every one is refused while the disk fails") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    disk.block(true);
    disk.break_it(true);
    std::atomic<int> refused{0};
    std::vector<std::thread> writers;
    for (std::uint64_t i = 0; i < 8; ++i) {
        writers.emplace_back([&, i] { refused += map.enter(region(i)) ? 0 : 1; });
    }
    wait_until([&] { return map.count() == 8; });
    disk.block(false);
    for (auto& writer : writers) {
        writer.join();
    }
    CHECK(refused == 8);
    CHECK(disk.writes() == 2);
}

TEST_CASE("at no moment a write is in progress whose region is not on disk") {
    Disk disk;
    IntentMap map(volume_size, disk.persist());
    std::atomic<bool> stop{false};
    std::atomic<int> lost{0};
    std::thread housekeeper([&] {
        while (!stop) {
            CHECK(map.checkpoint(Clear::all, nothing_to_settle));
            std::this_thread::yield();
        }
    });
    std::vector<std::thread> writers;
    for (unsigned seed = 0; seed < 5; ++seed) {
        writers.emplace_back([&, seed] {
            std::mt19937_64 random(seed);
            for (int turn = 0; turn < 1500; ++turn) {
                const std::uint64_t first = random() % 3 == 0 ? random() % regions : random() % 20;
                const BitRange range{first, std::min(regions, first + 1 + random() % 3)};
                const auto entered = map.enter(
                    {range.first * region_size, (range.last - range.first) * region_size});
                lost += entered && disk.has(range) ? 0 : 1;
                std::this_thread::yield();
                lost += disk.has(range) ? 0 : 1;
            }
        });
    }
    for (auto& writer : writers) {
        writer.join();
    }
    stop = true;
    housekeeper.join();
    CHECK(lost == 0);
    CHECK(map.checkpoint(Clear::all, nothing_to_settle));
    CHECK(map.checkpoint(Clear::all, nothing_to_settle));
    CHECK(disk.count() == 0);
    CHECK(map.count() == 0);
}
