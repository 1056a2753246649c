// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/units.hpp"

#include <doctest/doctest.h>

using namespace mirror;
using namespace std::chrono_literals;

TEST_CASE("sizes are whole numbers of binary units") {
    CHECK(parse_size("10GiB") == 10 * GiB);
    CHECK(parse_size("512 MiB") == 512 * MiB);
    CHECK(parse_size("4096") == 4096);
    CHECK(parse_size("1B") == 1);
    CHECK(parse_size("3K") == 3 * KiB);
    CHECK(parse_size("3M") == 3 * MiB);
    CHECK(parse_size("3G") == 3 * GiB);
    CHECK(parse_size("3T") == 3 * TiB);
    CHECK(parse_size("16777215TiB") == 16777215 * TiB);
}

TEST_CASE("a size that means something else than it seems is refused") {
    CHECK(parse_size("10GB").error().text() ==
          "'GB' is a decimal unit; write GiB, which is a power of 1024");
    CHECK(parse_size("10kB").error().remedy == "write KiB, which is a power of 1024");
    for (const char* text : {"", "GiB", "-1", "+1", "1.5GiB", "10 gib", "10GiB ", " 10", "0x10"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_size(text).has_value());
    }
    CHECK(parse_size("16777216TiB").error().message == "'16777216TiB' is too large");
    CHECK_FALSE(parse_size("18446744073709551616").has_value());
}

TEST_CASE("sizes are printed exactly where it is short, else with three digits") {
    CHECK(format_size(0) == "0 B");
    CHECK(format_size(512) == "512 B");
    CHECK(format_size(10 * GiB) == "10 GiB");
    CHECK(format_size(1536) == "1.5 KiB");
    CHECK(format_size(GiB + 430 * MiB) == "1.42 GiB");
    CHECK(format_size(GiB + 1) == "1.00 GiB");
    CHECK(format_size(10 * GiB - 1) == "10.0 GiB");
    CHECK(format_size(GiB - 1) == "1.00 GiB");
    CHECK(format_size(123 * GiB + 1) == "123 GiB");
    CHECK(format_size(5000 * TiB) == "5000 TiB");
}

TEST_CASE("durations need a unit") {
    CHECK(parse_duration("5s") == 5000ms);
    CHECK(parse_duration("250ms") == 250ms);
    CHECK(parse_duration("2min") == 120s);
    CHECK(parse_duration("1 h") == 3600s);
    CHECK(parse_duration("5").error().text() == "'5' has no unit; units are ms, s, min and h");
    CHECK(parse_duration("5m").error().message == "'m' is not a known unit");
    for (const char* text : {"", "s", "-5s", "1.5s", "9223372036854775807s"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_duration(text).has_value());
    }
}

TEST_CASE("durations are printed in two units at most") {
    CHECK(format_duration(0ms) == "0 ms");
    CHECK(format_duration(250ms) == "250 ms");
    CHECK(format_duration(5s) == "5.0 s");
    CHECK(format_duration(59'999ms) == "59.9 s");
    CHECK(format_duration(125s) == "2 min 5 s");
    CHECK(format_duration(63min) == "1 h 3 min");
    CHECK(format_duration(-1500ms) == "-1.5 s");
    CHECK(format_duration(std::chrono::milliseconds::min()).starts_with("-"));
}

TEST_CASE("a range beyond the end never fits, whatever the numbers") {
    CHECK(ByteRange{0, 512}.fits_in(512));
    CHECK(ByteRange{512, 0}.fits_in(512));
    CHECK_FALSE(ByteRange{1, 512}.fits_in(512));
    CHECK_FALSE(ByteRange{~0ULL, 2}.fits_in(512));
    CHECK_FALSE(ByteRange{2, ~0ULL}.fits_in(512));
}
