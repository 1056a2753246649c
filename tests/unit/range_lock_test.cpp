// SPDX-License-Identifier: BSD-3-Clause
#include "core/maps/range_lock.hpp"

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

/// A thread that acquires a range and holds it until told otherwise.
class Holder {
  public:
    Holder(RangeLock& lock, ByteRange range)
        : thread_([this, &lock, range] {
              const RangeLock::Held held = lock.acquire(range);
              granted_.set_value();
              let_go_.get_future().wait();
          }) {}
    ~Holder() { release(); }

    [[nodiscard]] bool is_granted_within(std::chrono::milliseconds time) {
        return granted_future_.wait_for(time) == std::future_status::ready;
    }
    void release() {
        if (thread_.joinable()) {
            let_go_.set_value();
            thread_.join();
        }
    }

  private:
    std::promise<void> granted_;
    std::future<void> granted_future_ = granted_.get_future();
    std::promise<void> let_go_;
    std::thread thread_;
};

constexpr auto long_enough = 30s;
constexpr auto a_moment = 20ms;  // only ever proves too little, never fails a correct lock

}  // namespace

TEST_CASE("ranges that do not overlap do not wait for each other") {
    RangeLock lock;
    const auto first = lock.acquire({0, 4096});
    const auto second = lock.acquire({4096, 4096});
    Holder third(lock, {1 * MiB, 1});
    CHECK(third.is_granted_within(long_enough));
}

TEST_CASE("an overlapping range waits until the earlier one is let go") {
    RangeLock lock;
    auto first = std::make_optional(lock.acquire({0, 4096}));
    Holder second(lock, {4095, 10});
    CHECK(!second.is_granted_within(a_moment));
    first.reset();
    CHECK(second.is_granted_within(long_enough));
}

TEST_CASE("a moved holder lets go once") {
    RangeLock lock;
    auto first = std::make_optional(lock.acquire({0, 10}));
    auto moved = std::make_optional(std::move(*first));
    first.reset();
    Holder second(lock, {0, 10});
    CHECK(!second.is_granted_within(a_moment));
    moved.reset();
    CHECK(second.is_granted_within(long_enough));
}

TEST_CASE("a latecomer does not overtake one who waits") {
    RangeLock lock;
    auto low = std::make_optional(lock.acquire({0, 10}));
    Holder wide(lock, {0, 100});  // waits for `low`
    CHECK(!wide.is_granted_within(a_moment));
    Holder late(lock, {50, 10});  // free of `low`, but behind `wide`
    CHECK(!late.is_granted_within(a_moment));
    low.reset();
    CHECK(wide.is_granted_within(long_enough));
    CHECK(!late.is_granted_within(a_moment));
    wide.release();
    CHECK(late.is_granted_within(long_enough));
}

TEST_CASE("whoever can't wait does not overtake one who waits either") {
    RangeLock lock;
    auto low = std::make_optional(lock.acquire({0, 10}));
    Holder wide(lock, {0, 100});
    CHECK(!wide.is_granted_within(a_moment));
    {
        // Nobody holds it; but `wide` would be given it beside this one.
        const auto high = lock.try_acquire({50, 10});
        low.reset();
        if (high) {
            CHECK(!wide.is_granted_within(a_moment));
        }
    }
    CHECK(wide.is_granted_within(long_enough));
    CHECK_FALSE(lock.try_acquire({50, 10}));
    wide.release();
    CHECK(lock.try_acquire({50, 10}));
}

TEST_CASE("everybody who waited for one range gets his turn when it is let go") {
    RangeLock lock;
    auto wide = std::make_optional(lock.acquire({0, 100}));
    Holder low(lock, {0, 10});
    Holder middle(lock, {40, 10});
    Holder high(lock, {90, 10});
    CHECK(!low.is_granted_within(a_moment));
    CHECK(!middle.is_granted_within(a_moment));
    CHECK(!high.is_granted_within(a_moment));
    wide.reset();
    CHECK(low.is_granted_within(long_enough));
    CHECK(middle.is_granted_within(long_enough));
    CHECK(high.is_granted_within(long_enough));
}

TEST_CASE("under load no two holders of a range meet, and all get their turn") {
    constexpr std::size_t cells = 16;
    RangeLock lock;
    std::array<std::atomic<int>, cells> holders{};
    std::atomic<int> meetings{0};
    std::vector<std::thread> threads;
    for (unsigned seed = 0; seed < 6; ++seed) {
        threads.emplace_back([&, seed] {
            std::mt19937 random(seed);
            for (int turn = 0; turn < 3000; ++turn) {
                const std::size_t first = random() % cells;
                const std::size_t count = 1 + random() % (cells - first);
                const auto held = lock.acquire({first * 512, count * 512});
                for (std::size_t i = first; i < first + count; ++i) {
                    meetings += holders[i].fetch_add(1) == 0 ? 0 : 1;
                }
                std::this_thread::yield();
                for (std::size_t i = first; i < first + count; ++i) {
                    holders[i].fetch_sub(1);
                }
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    CHECK(meetings == 0);
}
