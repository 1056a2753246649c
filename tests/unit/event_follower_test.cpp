// SPDX-License-Identifier: BSD-3-Clause
#include "core/events/event_follower.hpp"

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "core/events/event_log.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;

namespace {

using Lines = std::vector<std::string>;

struct Scene {
    test::TempDir dir;
    std::string path = dir.file("events.jsonl");

    void append(const std::string& text) const { std::ofstream(path, std::ios::app) << text; }
    /// As EventLog does it.
    void rotate() const {
        for (int number = 3; number >= 1; --number) {
            std::rename(numbered(number).c_str(), numbered(number + 1).c_str());
        }
        REQUIRE(std::rename(path.c_str(), numbered(1).c_str()) == 0);
    }
    [[nodiscard]] std::string numbered(int number) const {
        return path + "." + std::to_string(number);
    }
    [[nodiscard]] static Lines read(EventFollower& follower) {
        Lines lines;
        REQUIRE(follower.read_new(
            [&](std::string_view line, const EventPosition&) { lines.emplace_back(line); }));
        return lines;
    }
};

}  // namespace

TEST_CASE_FIXTURE(Scene, "lines are handed out once, whole, across rotations") {
    EventFollower follower(path);
    CHECK(read(follower).empty());
    append("a\nb\nhal");
    CHECK(read(follower) == Lines{"a", "b"});
    append("f\n");
    rotate();
    append("c\n");
    rotate();
    append("d\n");
    CHECK(read(follower) == Lines{"half", "c", "d"});
    CHECK(read(follower).empty());
}

TEST_CASE_FIXTURE(Scene,
                  "another process goes on where the first one was, wherever that is by now") {
    append("a\nb\nc\n");
    EventFollower follower(path);
    std::vector<EventPosition> places;
    REQUIRE(follower.read_new(
        [&](std::string_view, const EventPosition& end) { places.push_back(end); }));
    REQUIRE(places.size() == 3);
    for (int rotations = 0; rotations < 4; ++rotations) {
        EventFollower next(path);
        const auto found = next.go_to(places[1]);
        REQUIRE(found);
        CHECK(*found);
        CHECK(read(next).front() == "c");
        rotate();
        append("later\n");
    }
    EventFollower at_end(path);
    REQUIRE(at_end.go_to_end());
    CHECK(read(at_end).empty());
    append("new\n");
    CHECK(read(at_end) == Lines{"new"});
}

TEST_CASE_FIXTURE(Scene, "a place that is not there any more is told, and nothing is left out") {
    append("a\nb\n");
    EventFollower follower(path);
    REQUIRE(follower.go_to_end());
    const EventPosition place = follower.position();
    for (int i = 0; i < 5; ++i) {
        rotate();
        append("x\n");
    }
    EventFollower next(path);
    const auto found = next.go_to(place);
    REQUIRE(found);
    CHECK_FALSE(*found);
    CHECK(read(next).size() == 5);
    // Another file may have the inode: its line is not the one.
    EventPosition other = place;
    other.inode = follower.position().inode;
    other.mark ^= 1;
    EventFollower third(path);
    CHECK_FALSE(third.go_to(other).value());
}

TEST_CASE_FIXTURE(
    Scene, "what a recorder takes back was never handed out, and an emptied log is read anew") {
    append("a\npart of a line that found no space");
    EventFollower follower(path);
    CHECK(read(follower) == Lines{"a"});
    std::filesystem::resize_file(path, 2);
    append("b\n");
    CHECK(read(follower) == Lines{"b"});
    std::filesystem::resize_file(path, 0);
    append("c\n");
    CHECK(read(follower) == Lines{"c"});
    append(std::string(3 << 20, 'x'));
    CHECK(read(follower).empty());
    append("\nd\n");
    CHECK(read(follower).back() == "d");
}

TEST_CASE_FIXTURE(Scene, "a log that is made before it is there is read from its first line") {
    EventFollower follower(path);
    REQUIRE(follower.go_to_end());
    EventFollower next(path);
    CHECK(next.go_to(follower.position()).value());
    append("a\n");
    CHECK(read(follower) == Lines{"a"});
    CHECK(read(next) == Lines{"a"});
}

TEST_CASE_FIXTURE(Scene, "nothing is missed or doubled while others record and rotate") {
    constexpr int count = 3000;
    std::atomic<bool> is_over{false};
    std::vector<std::string> seen;
    EventFollower follower(path);
    std::thread recorder([&] {
        EventLog events(path, "alpha", system_clock(), 256 * KiB);
        for (int i = 0; i < count; ++i) {
            events.record({.id = "test", .text = fmt::format("<{}>", i)});
        }
        is_over = true;
    });
    for (bool last = false; !last;) {
        last = is_over;
        REQUIRE(follower.read_new([&](std::string_view line, const EventPosition&) {
            const std::size_t from = line.find('<');
            seen.emplace_back(line.substr(from, line.find('>') - from + 1));
        }));
    }
    recorder.join();
    REQUIRE(seen.size() == count);
    for (int i = 0; i < count; ++i) {
        CHECK(seen[static_cast<std::size_t>(i)] == fmt::format("<{}>", i));
    }
}
