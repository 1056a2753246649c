// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/large_work.hpp"

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace mirror;

TEST_CASE("small changes never wait, however much is under way") {
    LargeWork work;
    const auto all = work.enter(LargeWork::most);
    for (int i = 0; i < 1000; ++i) {
        (void)work.enter(LargeWork::large);
    }
}

TEST_CASE("one that is larger than everything has room alone") {
    LargeWork work;
    { const auto huge = work.enter(10 * LargeWork::most); }
    const auto next = work.enter(10 * LargeWork::most);
}

TEST_CASE("no more than the limit is under way, and everybody gets his turn") {
    LargeWork work;
    std::atomic<std::uint64_t> under_way{0};
    std::atomic<std::uint64_t> peak{0};
    std::atomic<int> done{0};
    std::vector<std::thread> users;
    for (int user = 0; user < 8; ++user) {
        users.emplace_back([&] {
            for (int i = 0; i < 50; ++i) {
                constexpr std::uint64_t bytes = 24 * MiB;
                const auto turn = work.enter(bytes);
                const std::uint64_t now = under_way += bytes;
                std::uint64_t before = peak.load();
                while (now > before && !peak.compare_exchange_weak(before, now)) {
                }
                std::this_thread::yield();
                under_way -= bytes;
            }
            ++done;
        });
    }
    for (std::thread& user : users) {
        user.join();
    }
    CHECK(done == 8);
    CHECK(peak <= LargeWork::most);
    CHECK(peak >= 24 * MiB);
}

TEST_CASE("the end of the session lets everybody go on") {
    LargeWork work;
    std::optional<LargeWork::Turn> held;
    held.emplace(work.enter(LargeWork::most));
    std::atomic<int> waiting{0};
    std::vector<std::thread> users;
    for (int i = 0; i < 4; ++i) {
        users.emplace_back([&] {
            ++waiting;
            const auto turn = work.enter(LargeWork::most);
            --waiting;
        });
    }
    while (waiting == 0) {
        std::this_thread::yield();
    }
    work.end();
    for (std::thread& user : users) {
        user.join();  // a turn that is never given back would keep them for ever
    }
    CHECK(waiting == 0);
    (void)work.enter(LargeWork::most);
}
