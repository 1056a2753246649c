// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/clock.hpp"

#include <doctest/doctest.h>

using namespace mirror;
using namespace std::chrono_literals;

TEST_CASE("a time is printed in UTC with milliseconds") {
    CHECK(format_rfc3339(WallTime{}) == "1970-01-01T00:00:00.000Z");
    CHECK(format_rfc3339(WallTime(std::chrono::microseconds(1772368205250999))) ==
          "2026-03-01T12:30:05.250Z");
    CHECK(format_rfc3339(WallTime(std::chrono::microseconds(-1))) == "1969-12-31T23:59:59.999Z");
}

TEST_CASE("a printed time is read back") {
    const WallTime time(std::chrono::milliseconds(1709210096007));  // a 29th of February
    CHECK(parse_rfc3339(format_rfc3339(time)) == time);
}

TEST_CASE("other forms of RFC 3339 are understood") {
    const WallTime time(std::chrono::seconds(1772368205));
    CHECK(parse_rfc3339("2026-03-01T12:30:05Z") == time);
    CHECK(parse_rfc3339("2026-03-01 14:00:05+01:30") == time);
    CHECK(parse_rfc3339("2026-03-01t04:30:05-08:00") == time);
    CHECK(parse_rfc3339("2026-03-01T12:30:05.000001999Z") == time + std::chrono::microseconds(1));
}

TEST_CASE("what is not a time is refused") {
    for (const char* text : {"", "now", "2026-03-01", "2026-03-01T12:30:05", "2026-02-29T12:30:05Z",
                             "2026-13-01T12:30:05Z", "2026-03-01T24:30:05Z", "2026-03-01T12:60:05Z",
                             "2026-03-01T12:30:05.Z", "2026-03-01T12:30:05ZZ", "2026-3-1T12:30:05Z",
                             "+026-03-01T12:30:05Z", "2026-03-01T12:30:05+0100"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_rfc3339(text).has_value());
    }
}

TEST_CASE("another clock is read half-way between question and answer, most likely") {
    constexpr WallTime answered{std::chrono::seconds(1'000'000)};
    const auto offset = clock_offset(answered + 2s, answered, 200ms);
    CHECK(offset.likely == 2100ms);
    CHECK(offset.uncertainty == 100ms);
    CHECK(offset.at_least() == 2s);
}

TEST_CASE("clocks are not taken for different because an answer took its time") {
    constexpr WallTime answered{std::chrono::seconds(1'000'000)};
    constexpr auto took = 3s;
    for (const auto read_at : {0ms, 700ms, 1500ms, 3000ms}) {
        CAPTURE(read_at.count());
        CHECK(clock_offset(answered - took + read_at, answered, took).at_least() == 0s);
    }
}

TEST_CASE("clocks that are different are found though an answer took its time") {
    constexpr WallTime answered{std::chrono::seconds(1'000'000)};
    CHECK(clock_offset(answered + 60s, answered, 3s).at_least() == 60s);
    CHECK(clock_offset(answered - 60s, answered, 3s).at_least() == 57s);
}

TEST_CASE("seconds are told with milliseconds") {
    CHECK(rounded_seconds(1234567us) == 1.235);
    CHECK(rounded_seconds(-1499us) == -0.001);
}

TEST_CASE("steady time does not go back") {
    const SteadyTime before = system_clock().steady_now();
    CHECK(system_clock().steady_now() >= before);
}
