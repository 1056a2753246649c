// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/clock.hpp"

#include <doctest/doctest.h>

using namespace mirror;

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

TEST_CASE("steady time does not go back") {
    const SteadyTime before = system_clock().steady_now();
    CHECK(system_clock().steady_now() >= before);
}
