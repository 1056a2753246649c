// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/start_thread.hpp"

#include <csignal>

#include <doctest/doctest.h>

#include "core/base/worker_pool.hpp"
#include "core/nbd/server.hpp"
#include "tests/unit/no_threads.hpp"

using namespace mirror;

TEST_CASE("a thread of ours leaves every signal to others") {
    bool blocks_term = false;
    auto started = start_thread("signals", [&] {
        sigset_t mask;
        ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
        blocks_term = ::sigismember(&mask, SIGTERM) == 1 && ::sigismember(&mask, SIGUSR1) == 1;
    });
    REQUIRE(started);
    started->join();
    CHECK(blocks_term);
    sigset_t ours;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &ours);
    CHECK(::sigismember(&ours, SIGUSR1) == 0);
}

TEST_CASE("a machine without room for a thread is an error, not the end of the process") {
    const test::NoThreads none;
    Thread thread;
    const auto started = start_thread(thread, "none", [] {});
    REQUIRE_FALSE(started);
    CHECK(started.error().message.find("none") != std::string::npos);
    CHECK_FALSE(thread.joinable());
    WorkerPool pool("pool");
    CHECK_FALSE(pool.start());
}
