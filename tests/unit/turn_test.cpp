// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/turn.hpp"

#include <atomic>
#include <functional>
#include <thread>

#include <doctest/doctest.h>

#include "eventually.hpp"

using namespace mirror::nbd;
using mirror::test::eventually;
using namespace std::chrono_literals;

TEST_CASE("a wait that lasts is taken over, however long nothing happened before it") {
    std::atomic<int> taken_over{0};
    Turn turn([&] { ++taken_over; });
    REQUIRE(turn.start());
    for (int round = 1; round <= 2; ++round) {
        REQUIRE(eventually([&] { return turn.watcher_sleeps(); }));
        const std::uint64_t wait = turn.begin_wait();
        REQUIRE(eventually([&] { return taken_over == round; }));
        CHECK(turn.is_slow());
        CHECK_FALSE(turn.end_wait(wait));
    }
}

TEST_CASE("a wait that ends at once is nobody else's") {
    std::atomic<int> taken_over{0};
    Turn turn([&] { ++taken_over; });
    REQUIRE(turn.start());
    REQUIRE(eventually([&] { return turn.watcher_sleeps(); }));
    CHECK(turn.end_wait(turn.begin_wait()));
    REQUIRE(eventually([&] { return turn.watcher_sleeps(); }));
    CHECK(taken_over == 0);
    CHECK_FALSE(turn.is_slow());
}
