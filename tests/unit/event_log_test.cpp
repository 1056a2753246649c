// SPDX-License-Identifier: BSD-3-Clause
#include "core/events/event_log.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;

namespace {

class FixedClock final : public Clock {
  public:
    [[nodiscard]] WallTime wall_now() const override {
        return WallTime(std::chrono::milliseconds(1772368205250));
    }
    [[nodiscard]] SteadyTime steady_now() const override { return {}; }
};

const FixedClock fixed_clock;

std::vector<std::string> lines_of(const std::string& path) {
    std::ifstream file(path);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
        lines.push_back(line);
    }
    return lines;
}

/// The log's files that are there, the newest first.
std::vector<std::string> log_files(const std::string& path) {
    std::vector<std::string> files{path};
    for (int number = 1; number < 10; ++number) {
        if (const std::string file = fmt::format("{}.{}", path, number);
            std::filesystem::exists(file)) {
            files.push_back(file);
        }
    }
    return files;
}

void record_many(const std::string& path, const std::string& who, int count,
                 std::uint64_t rotate_at) {
    EventLog events(path, who, fixed_clock, rotate_at);
    for (int number = 0; number < count; ++number) {
        events.record({.id = "test", .text = fmt::format("{}-{}", who, number)});
    }
}

/// The test's stderr would drown in the copies of the events.
void silence_stderr() {
    const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    ::dup2(null, STDERR_FILENO);
}

pid_t fork_recorder(const std::string& path, const std::string& who, int count,
                    std::uint64_t rotate_at) {
    const pid_t child = ::fork();
    if (child == 0) {
        silence_stderr();
        record_many(path, who, count, rotate_at);
        ::_exit(0);
    }
    return child;
}

bool ended_well(pid_t child) {
    int status = 0;
    return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("an event is one line of JSON with all its fields") {
    const test::TempDir dir;
    EventLog events(dir.file("events.jsonl"), "alpha", fixed_clock);
    events.record({.id = "mirror-break",
                   .severity = Severity::error,
                   .volume = "r0",
                   .text = "the mirror broke\nhere",
                   .cause = "\xff from a peer",
                   .remedy = "look at \"beta\""});
    events.record({.id = "started", .text = "mirrord runs"});
    const std::vector<std::string> lines = lines_of(events.path());
    REQUIRE(lines.size() == 2);
    CHECK(lines[0] == R"({"time":"2026-03-01T12:30:05.250Z","node":"alpha","volume":"r0",)"
                      R"("id":"mirror-break","severity":"error","text":"the mirror broke\nhere",)"
                      "\"cause\":\"\xef\xbf\xbd from a peer\","
                      R"("remedy":"look at \"beta\""})");
    CHECK(nlohmann::json::parse(lines[1]).at("severity") == "info");
}

TEST_CASE("two processes lose no line and tear none, across rotations") {
    const test::TempDir dir;
    const std::string path = dir.file("events.jsonl");
    constexpr int count = 150;
    // The lines of both fill the file a little over four times: nothing is old enough to drop.
    constexpr std::uint64_t rotate_at = 8000;
    const pid_t one = fork_recorder(path, "one", count, rotate_at);
    const pid_t two = fork_recorder(path, "two", count, rotate_at);
    REQUIRE(ended_well(one));
    REQUIRE(ended_well(two));

    std::set<std::string> texts;
    const std::vector<std::string> files = log_files(path);
    CHECK(files.size() == 5);
    for (const std::string& file : files) {
        CHECK(std::filesystem::file_size(file) <= rotate_at);
        for (const std::string& line : lines_of(file)) {
            const auto json = nlohmann::json::parse(line, nullptr, false);
            REQUIRE_FALSE(json.is_discarded());
            CHECK(texts.insert(json.at("text")).second);
        }
    }
    CHECK(texts.size() == 2 * count);
}

TEST_CASE("rotation keeps four old files with the newest lines in order") {
    const test::TempDir dir;
    const std::string path = dir.file("events.jsonl");
    REQUIRE(ended_well(fork_recorder(path, "one", 100, 300)));  // two lines a file
    const std::vector<std::string> files = log_files(path);
    REQUIRE(files ==
            std::vector<std::string>{path, path + ".1", path + ".2", path + ".3", path + ".4"});
    int expected = 99;
    for (const std::string& file : files) {
        const std::vector<std::string> lines = lines_of(file);
        REQUIRE(lines.size() == 2);
        for (std::size_t i = lines.size(); i-- > 0; --expected) {
            CHECK(nlohmann::json::parse(lines[i]).at("text") == fmt::format("one-{}", expected));
        }
    }
}

TEST_CASE("threads of one process share a log") {
    const test::TempDir dir;
    EventLog events(dir.file("events.jsonl"), "alpha", fixed_clock);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&events] {
            for (int number = 0; number < 10; ++number) {
                events.record({.id = "test", .text = "x"});
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(lines_of(events.path()).size() == 40);
}

TEST_CASE("what a crash left of a line does not spoil the next one") {
    const test::TempDir dir;
    EventLog events(dir.file("events.jsonl"), "alpha", fixed_clock);
    std::ofstream(events.path()) << R"({"time":"20)";
    events.record({.id = "test", .text = "x"});
    const std::vector<std::string> lines = lines_of(events.path());
    REQUIRE(lines.size() == 2);
    CHECK(nlohmann::json::parse(lines[1]).at("text") == "x");
}

TEST_CASE("a log that cannot be written stops nobody") {
    EventLog events("/nonexistent/events.jsonl", "alpha", fixed_clock);
    events.record({.id = "test", .text = "x"});
    CHECK(events.path() == "/nonexistent/events.jsonl");
}
