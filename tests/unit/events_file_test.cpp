// SPDX-License-Identifier: BSD-3-Clause
#include "tools/events_file.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "temp_dir.hpp"
#include "tools/events_view.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

struct Fixture {
    test::TempDir dir;
    std::string path = dir.path() + "/events.jsonl";
    EventsFile file{path};
    std::vector<std::string> seen;

    void append(const std::string& text) { std::ofstream(path, std::ios::app) << text; }
    void rotate() { REQUIRE(std::rename(path.c_str(), (path + ".1").c_str()) == 0); }
    void put(const std::string& suffix, const std::string& text) {
        std::ofstream(path + suffix) << text;
    }
    EventsFile::LineSink sink() {
        return [this](std::string_view line) { seen.emplace_back(line); };
    }
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE_FIXTURE(Fixture, "rotated files come first, oldest first") {
    put(".2", "a\n");
    put(".1", "b\n");
    put("", "c\n");
    REQUIRE(file.read_all(sink()));
    CHECK(seen == Lines{"a", "b", "c"});
}

TEST_CASE_FIXTURE(Fixture, "no file is no error, and is followed from its birth") {
    REQUIRE(file.read_all(sink()));
    append("a\n");
    REQUIRE(file.read_new(sink()));
    REQUIRE(file.read_new(sink()));
    CHECK(seen == Lines{"a"});
}

TEST_CASE_FIXTURE(Fixture, "a line is handed out only when it is whole") {
    append("a\nhal");
    REQUIRE(file.read_all(sink()));
    CHECK(seen == Lines{"a"});
    append("f\n");
    REQUIRE(file.read_new(sink()));
    CHECK(seen == Lines{"a", "half"});
}

TEST_CASE_FIXTURE(Fixture, "following survives a rotation without loss or repetition") {
    append("a\n");
    REQUIRE(file.read_all(sink()));
    append("b\n");
    rotate();
    append("c\n");
    REQUIRE(file.read_new(sink()));
    append("d\n");
    REQUIRE(file.read_new(sink()));
    CHECK(seen == Lines{"a", "b", "c", "d"});
}

TEST_CASE_FIXTURE(Fixture,
                  "between the renames of a rotation there is no current file for a moment") {
    append("a\n");
    REQUIRE(file.read_all(sink()));
    append("b\n");
    rotate();
    REQUIRE(file.read_new(sink()));
    append("c\n");
    REQUIRE(file.read_new(sink()));
    CHECK(seen == Lines{"a", "b", "c"});
}

TEST_CASE("a log that cannot be read is an error that names it") {
    EventsFile file("/dev/null/events.jsonl");
    const auto read = file.read_all([](std::string_view) {});
    REQUIRE_FALSE(read);
    CHECK(read.error().message.find("/dev/null/events.jsonl") != std::string::npos);
}

TEST_CASE("an event is one line, with cause and remedy below") {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
    const Json event = Json::parse(R"({"time": "2026-03-01T12:30:05.250Z", "node": "alpha",
        "volume": "r0", "id": "mirror-break", "severity": "warning",
        "text": "beta is left out.", "cause": "no answer for 5.0 s", "remedy": ""})");
    CHECK(format_event(event, Terminal{}) ==
          "2026-03-01 12:30:05  warning  r0  mirror-break  beta is left out.\n"
          "                     cause: no answer for 5.0 s\n");
}

TEST_CASE("since takes an age or a time, and filters") {
    const WallTime now = parse_rfc3339("2026-03-01T12:00:00Z").value();
    CHECK(parse_since("1h", now) == parse_rfc3339("2026-03-01T11:00:00Z").value());
    CHECK(parse_since("2026-02-01T00:00:00Z", now) ==
          parse_rfc3339("2026-02-01T00:00:00Z").value());
    CHECK_FALSE(parse_since("yesterday", now));
    const EventFilter filter{"r0", parse_since("1h", now).value()};
    CHECK(filter.wants({{"volume", "r0"}, {"time", "2026-03-01T11:30:00Z"}}));
    CHECK_FALSE(filter.wants({{"volume", "r1"}, {"time", "2026-03-01T11:30:00Z"}}));
    CHECK_FALSE(filter.wants({{"volume", "r0"}, {"time", "2026-03-01T10:30:00Z"}}));
}
