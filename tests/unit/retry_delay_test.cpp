// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/retry_delay.hpp"

#include <doctest/doctest.h>

using namespace mirror;
using namespace std::chrono_literals;

TEST_CASE("a peer that can't be reached is asked often, and needs no probe") {
    RetryDelay retry;
    CHECK(retry.wait() == 0ms);
    retry.failed();
    CHECK(retry.wait() == RetryDelay::first);
    retry.failed();
    CHECK(retry.wait() == 2 * RetryDelay::first);
    for (int i = 0; i < 20; ++i) {
        retry.failed();
    }
    CHECK(retry.wait() == RetryDelay::longest);
    CHECK_FALSE(retry.wants_probe());
    retry.session_over(10ms, true, false);
    CHECK(retry.wait() == 0ms);
    retry.failed();
    CHECK(retry.wait() == RetryDelay::first);
}

TEST_CASE("sessions that fall silent soon after they began come ever more seldom, after a probe") {
    RetryDelay retry;
    auto before = 0ms;
    for (int i = 0; i < 20; ++i) {
        retry.session_over(5s, i % 2 == 0, true);
        CHECK(retry.wants_probe());
        CHECK(retry.wait() >= before);
        CHECK(retry.wait() <= RetryDelay::longest_after_silence);
        before = retry.wait();
        retry.failed();  // the probe does not get through: no reason to ask more often
        CHECK(retry.wait() >= before);
    }
    CHECK(before == RetryDelay::longest_after_silence);
}

TEST_CASE("one that lasted ends that, and how long depends on how long was waited for it") {
    RetryDelay retry;
    retry.session_over(1s, true, true);
    CHECK(retry.wait() == RetryDelay::first_after_silence);
    retry.session_over(59s, true, true);
    CHECK(retry.wait() == 2 * RetryDelay::first_after_silence);
    retry.session_over(61s, true, true);
    CHECK(retry.wait() == 0ms);
    CHECK_FALSE(retry.wants_probe());
    for (int i = 0; i < 20; ++i) {
        retry.session_over(1s, true, true);
    }
    retry.session_over(61s, true, true);
    CHECK(retry.wait() == RetryDelay::longest_after_silence);
    retry.session_over(301s, true, true);
    CHECK(retry.wait() == 0ms);
}

TEST_CASE("a standby whose disk takes no resync gets it ever more seldom, until one has worked") {
    RetryDelay retry;
    auto before = 0ms;
    for (int i = 0; i < 20; ++i) {
        retry.session_over(5s, false, false, true);
        CHECK(retry.wait() >= before);
        CHECK_FALSE(retry.wants_probe());
        before = retry.wait();
    }
    CHECK(before == RetryDelay::longest_after_refused);
    retry.failed();  // away for a moment: no reason to ask more often
    CHECK(retry.wait() == RetryDelay::longest_after_refused);
    retry.session_over(5s, true, false);
    CHECK(retry.wait() == 0ms);
    retry.session_over(5s, false, false, true);
    CHECK(retry.wait() == RetryDelay::first_after_refused);
}

TEST_CASE("a short session that ended otherwise neither adds to that nor ends it") {
    RetryDelay retry;
    retry.session_over(1s, true, true);
    retry.session_over(1s, true, true);
    const auto wait = retry.wait();
    retry.session_over(1s, true, false);
    CHECK(retry.wait() == wait);
    CHECK(retry.wants_probe());
    retry.session_over(1s, true, true);
    CHECK(retry.wait() == 2 * wait);
}

TEST_CASE("sessions that end before the standby is up to date are tried less often, too") {
    RetryDelay retry;
    for (int i = 0; i < 20; ++i) {
        retry.session_over(1s, false, false);
    }
    CHECK(retry.wait() == RetryDelay::longest);
    CHECK_FALSE(retry.wants_probe());
}
