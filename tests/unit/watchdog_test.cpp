// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/watchdog.hpp"

#include <atomic>
#include <cstdlib>
#include <unistd.h>

#include <doctest/doctest.h>

#include "eventually.hpp"

using namespace mirror;
using namespace mirror::daemon;
using std::chrono::microseconds;

namespace {

void set(const char* variable, const std::string& value) {
    if (value.empty()) {
        ::unsetenv(variable);
    } else {
        ::setenv(variable, value.c_str(), 1);
    }
}

std::optional<microseconds> limit_with(const std::string& limit, const std::string& pid) {
    set("WATCHDOG_USEC", limit);
    set("WATCHDOG_PID", pid);
    const auto found = watchdog_limit();
    set("WATCHDOG_USEC", "");
    set("WATCHDOG_PID", "");
    return found;
}

}  // namespace

TEST_CASE("signs of life are given to who asked this process for them") {
    CHECK(limit_with("2000000", "") == microseconds(2000000));
    CHECK(limit_with("2000000", std::to_string(::getpid())) == microseconds(2000000));
    CHECK_FALSE(limit_with("2000000", "1"));
    for (const char* none : {"", "0", "soon", "-1", "2s", "99999999999999999999"}) {
        CHECK_FALSE(limit_with(none, ""));
    }
}

TEST_CASE("there is no sign of life from a mirrord that does not work, until it works again") {
    std::atomic<bool> works{true};
    std::atomic<int> tests{0};
    std::atomic<int> signs{0};
    Watchdog watchdog(
        [&]() -> Result<void> {
            ++tests;
            return works ? Result<void>() : fail(ErrorKind::timed_out, "no answer");
        },
        [&](const std::string& state) { signs += state == "WATCHDOG=1" ? 1 : 100; });
    REQUIRE(watchdog.start(std::chrono::milliseconds(20)));
    CHECK(test::eventually([&] { return signs >= 3; }));
    works = false;
    // One test may have been under way.
    const int before = tests;
    CHECK(test::eventually([&] { return tests > before + 1; }));
    const int then = signs;
    const int tested = tests;
    CHECK(test::eventually([&] { return tests > tested + 3; }));
    CHECK(signs == then);
    works = true;
    CHECK(test::eventually([&] { return signs > then; }));
    watchdog.stop();
}

TEST_CASE("a test that hangs gives no sign of life") {
    std::atomic<bool> hangs{true};
    std::atomic<bool> begun{false};
    std::atomic<int> signs{0};
    Watchdog watchdog(
        [&]() -> Result<void> {
            begun = true;
            begun.notify_all();
            hangs.wait(true);
            return {};
        },
        [&](const std::string&) { ++signs; });
    REQUIRE(watchdog.start(std::chrono::milliseconds(4)));
    begun.wait(false);
    CHECK(signs == 0);
    hangs = false;
    hangs.notify_all();
    CHECK(test::eventually([&] { return signs > 0; }));
}
