// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/worker_pool.hpp"

#include <atomic>
#include <thread>

#include <doctest/doctest.h>

using namespace mirror;

TEST_CASE("jobs that wait for each other all have a thread") {
    WorkerPool pool("test");
    REQUIRE(pool.start());
    std::atomic<int> inside{0};
    std::atomic<int> done{0};
    for (int i = 0; i < 40; ++i) {
        pool.run([&] {
            ++inside;
            while (inside < 40) {
                std::this_thread::yield();
            }
            ++done;
        });
    }
    pool.stop();
    CHECK(done == 40);
}

TEST_CASE("short jobs share few threads, and jobs may hand over jobs until the end") {
    WorkerPool pool("test");
    REQUIRE(pool.start());
    std::atomic<int> done{0};
    for (int i = 0; i < 1000; ++i) {
        std::atomic<bool> over{false};
        pool.run([&] {
            ++done;
            over = true;
        });
        while (!over) {
            std::this_thread::yield();
        }
    }
    CHECK(pool.threads() < 10);
    pool.run([&] { pool.run([&] { ++done; }); });
    pool.stop();
    CHECK(done == 1001);
}
