// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/event_hooks.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/json_text.hpp"
#include "tests/unit/eventually.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;
using namespace std::chrono_literals;

namespace {

/// A node with a folder of programs; each writes down what it was run for.
struct Scene {
    test::TempDir dir;
    std::string folder = dir.file("events.d");
    Config config = parse_config(fmt::format(R"(
[node.alpha]
address = "127.0.0.1:1"
run_dir = "{0}"
state_dir = "{0}"
[node.beta]
address = "127.0.0.1:2"
[volume.r0]
backing.alpha = "{0}/r0.img"
backing.beta = "{0}/r0.img"
)",
                                             dir.path()),
                                 dir.file("mirrordisk.toml"))
                        .value();
    EventLog events{dir.file("events.jsonl"), "alpha", system_clock()};
    const Context context{config, **config.node("alpha"), system_clock(), events};
    std::optional<EventHooks> hooks;

    Scene() {
        std::filesystem::create_directory(folder);
        ::chmod(folder.c_str(), 0755);
    }
    void add(const std::string& name, const std::string& body = "", mode_t mode = 0755) const {
        const std::string path = folder + "/" + name;
        std::ofstream(path) << "#!/bin/sh\n"
                            << body << "\necho " << name << " $1 >>" << dir.file("ran") << "\n";
        ::chmod(path.c_str(), mode);
    }
    void start(EventHookLimits limits = {}) {
        hooks.emplace(context, limits);
        hooks->find_place();
        REQUIRE(hooks->start());
    }
    void record(const std::string& id, const std::string& text = "something happened") {
        events.record({id, Severity::warning, "r0", text, "a cause", "a remedy"});
    }
    [[nodiscard]] std::string content(const std::string& name) const {
        std::ifstream file(dir.file(name));
        return {std::istreambuf_iterator<char>(file), {}};
    }
    [[nodiscard]] bool ran(const std::string& lines) const {
        return test::eventually([&] { return content("ran") == lines; }, 20s);
    }
    [[nodiscard]] std::vector<Json> recorded(const std::string& id) const {
        std::vector<Json> found;
        std::ifstream file(events.path());
        for (std::string line; std::getline(file, line);) {
            const Json event = control::parse_shallow(line);
            if (event.is_object() && event.at("id") == id) {
                found.push_back(event);
            }
        }
        return found;
    }
};

}  // namespace

TEST_CASE_FIXTURE(Scene,
                  "programs are run for each event, in the order of their names, told what it is") {
    add("10-first", "env >" + dir.file("env") + "; cat >" + dir.file("input"));
    add("20-second.sh");
    add("30-off", "", 0644);
    add("40-old.bak");
    start();
    record("mirror-break", "beta is away\x1b[2J \"quoted\"");
    REQUIRE(ran("10-first mirror-break\n20-second.sh mirror-break\n"));
    const std::string env = content("env");
    for (const char* line :
         {"MIRRORDISK_EVENT=mirror-break\n", "MIRRORDISK_SEVERITY=warning\n",
          "MIRRORDISK_VOLUME=r0\n", "MIRRORDISK_NODE=alpha\n", "MIRRORDISK_PEER=beta\n",
          "MIRRORDISK_CAUSE=a cause\n", "MIRRORDISK_REMEDY=a remedy\n",
          "MIRRORDISK_TEXT=beta is away [2J \"quoted\"\n", "HOME=/\n"}) {
        CAPTURE(line);
        CHECK(env.find(line) != std::string::npos);
    }
    CHECK(env.find("MIRRORDISK_CONFIG=" + dir.file("mirrordisk.toml") + "\n") != std::string::npos);
    const Json input = control::parse_shallow(content("input"));
    REQUIRE(input.is_object());
    CHECK(input == recorded("mirror-break").at(0));
}

TEST_CASE_FIXTURE(Scene,
                  "what was recorded while mirrord was away is handed over by the next one, once") {
    record("too-early");
    add("10-a");
    start();
    record("one");
    REQUIRE(ran("10-a one\n"));
    hooks.reset();
    EventLog of_an_engine(events.path(), "alpha", system_clock(), 100);  // rotates each time
    of_an_engine.record({.id = "two", .volume = "r0", .text = "x"});
    of_an_engine.record({.id = "three", .volume = "r0", .text = "x"});
    start();
    record("four");
    CHECK(ran("10-a one\n10-a two\n10-a three\n10-a four\n"));
    hooks.reset();
    start();
    record("five");
    CHECK(ran("10-a one\n10-a two\n10-a three\n10-a four\n10-a five\n"));
    struct stat cursor {};
    REQUIRE(::stat(dir.file("events.cursor").c_str(), &cursor) == 0);
    CHECK((cursor.st_mode & 07777U) == 0600);
}

TEST_CASE_FIXTURE(Scene, "a program cut short by the end of mirrord is run again, no other one") {
    add("10-done");
    add("20-hangs",
        "[ -e " + dir.file("may-end") + " ] || { touch " + dir.file("hangs") + "; sleep 1000; }");
    start();
    record("one");
    REQUIRE(test::eventually([&] { return std::filesystem::exists(dir.file("hangs")); }));
    const auto begin = std::chrono::steady_clock::now();
    hooks.reset();
    CHECK(std::chrono::steady_clock::now() - begin < 15s);
    std::ofstream(dir.file("may-end"));
    start();
    CHECK(ran("10-done one\n20-hangs one\n"));
    record("two");
    CHECK(ran("10-done one\n20-hangs one\n10-done two\n20-hangs two\n"));
}

TEST_CASE_FIXTURE(Scene,
                  "a program that fails or hangs is told once a minute, and never to itself") {
    add("10-fails", "[ $1 != event-hook-failed ] || touch " + dir.file("looped") +
                        "; echo no route >&2; exit 7");
    add("20-hangs", "[ $1 != one ] || sleep 1000");
    add("30-runs");
    start({.one_run = 300ms});
    record("one");
    record("two");
    REQUIRE(ran("30-runs one\n20-hangs two\n30-runs two\n"));
    const auto failed = recorded("event-hook-failed");
    REQUIRE(failed.size() == 1);
    CHECK(failed[0].at("text") == "10-fails failed for the event one");
    CHECK(failed[0].at("cause") == "exit status 7: no route");
    CHECK_FALSE(std::filesystem::exists(dir.file("looped")));
}

TEST_CASE_FIXTURE(Scene, "of too many that wait the oldest are dropped, and that is told") {
    add("10-slow", "touch " + dir.file("running") + "; until [ -e " + dir.file("may-go-on") +
                       " ]; do sleep 0.01; done");
    start({.most_waiting = 10});
    record("first");
    REQUIRE(test::eventually([&] { return std::filesystem::exists(dir.file("running")); }));
    for (int i = 0; i < 30; ++i) {
        record(fmt::format("event-{}", i));
    }
    std::ofstream(dir.file("may-go-on"));
    REQUIRE(test::eventually(
        [&] { return content("ran").find("event-hooks-late") != std::string::npos; }, 20s));
    const auto late = recorded("event-hooks-late");
    REQUIRE(late.size() == 1);
    const std::string ran = content("ran");
    const auto handed = static_cast<std::size_t>(std::count(ran.begin(), ran.end(), '\n')) - 1;
    CHECK(late[0].at("text").get<std::string>().starts_with(
        fmt::format("{} events were not handed", 31 - handed)));
    CHECK(ran.find("10-slow event-29\n") != std::string::npos);
}

TEST_CASE_FIXTURE(Scene, "what others may write is not run, and that is an event, once") {
    add("10-world", "", 0757);
    add("20-mine");
    start();
    record("one");
    record("two");
    REQUIRE(ran("20-mine one\n20-mine two\n"));
    const auto told = recorded("event-hook-failed");
    REQUIRE(told.size() == 1);
    CHECK(told[0].at("cause").get<std::string>().find(
              "10-world can be written by users other than its owner") != std::string::npos);
}

TEST_CASE_FIXTURE(
    Scene, "without programs events pass, and the first one is told of what comes after it") {
    start();
    record("one");
    CHECK(test::eventually([&] {
        const Json cursor = control::parse_shallow(content("events.cursor"));
        return cursor.is_object() &&
               cursor.at("offset") == std::filesystem::file_size(events.path());
    }));
    add("10-a");
    record("two");
    CHECK(ran("10-a two\n"));
}

TEST_CASE_FIXTURE(Scene, "a cursor that leads nowhere costs no event") {
    add("10-a");
    record("one");
    std::ofstream(dir.file("events.cursor")) << "{\"inode\": 1, \"offset\"";
    ::chmod(dir.file("events.cursor").c_str(), 0600);
    start();
    CHECK(ran("10-a one\n"));
}

TEST_CASE_FIXTURE(Scene, "a test shows how each program ended") {
    add("10-good", "echo fine");
    add("20-bad", "echo no route; exit 3");
    start();
    const auto shown = hooks->test("r0", 20s);
    REQUIRE(shown);
    const Json& outcomes = shown->at("hooks");
    REQUIRE(outcomes.size() == 2);
    CHECK(outcomes[0].at("name") == "10-good");
    CHECK(outcomes[0].at("succeeded") == true);
    CHECK(outcomes[0].at("output") == "fine");
    CHECK(outcomes[1].at("succeeded") == false);
    CHECK(outcomes[1].at("how") == "exit status 3");
    CHECK(content("ran") == "10-good test\n");
    CHECK(recorded("event-hook-failed").empty());
    CHECK(recorded("test").at(0).at("volume") == "r0");
    std::filesystem::remove_all(folder);
    const auto nothing = hooks->test("", 20s);
    REQUIRE(nothing);
    CHECK(nothing->at("hooks").empty());
    hooks->stop();
    CHECK(hooks->test("", 10ms).error().kind == ErrorKind::timed_out);
}
