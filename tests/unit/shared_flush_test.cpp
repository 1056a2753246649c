// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/shared_flush.hpp"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace mirror;

TEST_CASE("who comes while a flush runs shares the next one, and never joins the one that runs") {
    SharedFlush shared;
    std::atomic<bool> open{false};
    std::atomic<int> begun{0};
    std::atomic<int> come{0};
    std::atomic<int> failed{0};
    const auto flush = [&]() -> Result<void> {
        const int number = ++begun;
        while (number == 1 && !open) {
            std::this_thread::yield();
        }
        return number == 1 ? fail(ErrorKind::io, "the first one fails") : Result<void>();
    };
    std::vector<std::thread> threads;
    const auto come_in = [&] {
        ++come;
        failed += shared.run(flush) ? 0 : 1;
    };
    threads.emplace_back(come_in);
    while (begun == 0) {
        std::this_thread::yield();
    }
    for (int i = 0; i < 15; ++i) {
        threads.emplace_back(come_in);
    }
    while (come != 16) {
        std::this_thread::yield();
    }
    open = true;
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(failed == 1);  // its own caller's alone
    CHECK(begun >= 2);
    CHECK(begun <= 16);
}

TEST_CASE("who comes alone has a flush at once, and its result") {
    SharedFlush shared;
    int flushes = 0;
    for (int i = 0; i < 3; ++i) {
        CHECK(shared.run([&]() -> Result<void> {
            ++flushes;
            return {};
        }));
    }
    CHECK(flushes == 3);
    CHECK_FALSE(shared.run([]() -> Result<void> { return fail(ErrorKind::io, "no"); }));
    CHECK(shared.run([]() -> Result<void> { return {}; }));
}
