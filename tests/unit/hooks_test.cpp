// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/hooks.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "daemon/child.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;
using namespace std::chrono_literals;

namespace {

struct Scene {
    test::TempDir dir;
    std::string folder = dir.path() + "/hooks.d";
    std::vector<HookOutcome> outcomes;
    std::vector<std::string> problems;

    Scene() {
        std::filesystem::create_directory(folder);
        ::chmod(folder.c_str(), 0755);
    }
    void add(const std::string& name, const std::string& body, mode_t mode = 0755) const {
        const std::string path = folder + "/" + name;
        std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
        ::chmod(path.c_str(), mode);
    }
    Result<void> run(Occasion occasion, std::chrono::milliseconds limit = 30s) {
        HookRunner runner(
            folder,
            {.volume = "r0",
             .node = "alpha",
             .peer = "beta",
             .mount = "/srv/data",
             .reason = "switch"},
            limit, [&](const HookOutcome& outcome) { outcomes.push_back(outcome); },
            [&](const std::string& problem) { problems.push_back(problem); });
        return runner.run(occasion);
    }
    std::string names() const {
        std::string text;
        for (const HookOutcome& outcome : outcomes) {
            text += (text.empty() ? "" : " ") + outcome.name;
        }
        return text;
    }
    std::string written() const {
        std::ifstream file(dir.path() + "/written");
        std::ostringstream text;
        text << file.rdbuf();
        return text.str();
    }
};

}  // namespace

TEST_CASE_FIXTURE(Scene,
                  "hooks are run in the order of their names, and what is none is left out") {
    add("20-b", "true");
    add("10-a.sh", "true");
    add("B", "true");
    add("30-not-executable", "true", 0644);
    add("40-backup.bak", "true");
    add("50-edited~", "true");
    add(".hidden", "true");
    add("60-new.dpkg-new", "true");
    std::filesystem::create_directory(folder + "/70-folder");
    CHECK(run(Occasion::after_demote).has_value());
    CHECK(names() == "10-a.sh 20-b B");
    CHECK(problems.empty());
}

TEST_CASE_FIXTURE(Scene, "without a folder there is nothing to run") {
    folder += "/missing";
    CHECK(run(Occasion::before_demote).has_value());
    CHECK(list_hooks(folder).problems.empty());
}

TEST_CASE_FIXTURE(Scene, "what others may write is not run, and told") {
    add("10-world", "true", 0757);
    add("20-group", "true", 0775);
    add("30-mine", "true");
    CHECK(run(Occasion::after_demote).has_value());
    CHECK(names() == "30-mine");
    REQUIRE(problems.size() == 2);
    CHECK(problems[0].find("10-world can be written by users other than its owner") !=
          std::string::npos);
    ::chmod(folder.c_str(), 0777);
    CHECK(list_hooks(folder).hooks.empty());
    CHECK(list_hooks(folder).problems.size() == 1);
}

TEST_CASE_FIXTURE(Scene,
                  "where a hook may refuse, the first that fails is the last, with its words") {
    add("10-yes", "true");
    add("20-no", "echo one; echo two >&2; exit 7");
    add("30-later", "true");
    for (const Occasion occasion : {Occasion::before_demote, Occasion::before_promote}) {
        outcomes.clear();
        const auto done = run(occasion);
        REQUIRE(!done.has_value());
        CHECK(done.error().kind == ErrorKind::refused);
        CHECK(done.error().message.find("20-no") != std::string::npos);
        CHECK(done.error().message.find("exit status 7: one; two") != std::string::npos);
        CHECK(names() == "10-yes 20-no");
    }
}

TEST_CASE_FIXTURE(Scene, "where none may refuse, the others run after one that failed") {
    add("10-no", "exit 1");
    add("20-yes", "true");
    add("30-no", "kill -TERM $$");
    const auto done = run(Occasion::after_promote);
    REQUIRE(!done.has_value());
    CHECK(names() == "10-no 20-yes 30-no");
    CHECK(outcomes[2].how == "ended by signal 15");
    CHECK(done.error().message.find("10-no") != std::string::npos);
    CHECK(done.error().message.find("30-no") != std::string::npos);
}

TEST_CASE_FIXTURE(Scene, "a hook gets its occasion, its variables and nothing else") {
    add("10-tell", "{ echo $# $1; env; readlink /proc/self/fd/0; } >" + dir.path() + "/written");
    ::setenv("MIRRORDISK_SECRET", "x", 1);
    CHECK(run(Occasion::before_promote).has_value());
    const std::string text = written();
    for (const char* line :
         {"1 before-promote\n", "MIRRORDISK_VOLUME=r0\n", "MIRRORDISK_PEER=beta\n",
          "MIRRORDISK_DEVICE=\n", "MIRRORDISK_MOUNT=/srv/data\n", "MIRRORDISK_REASON=switch\n",
          "MIRRORDISK_OCCASION=before-promote\n", "/dev/null\n"}) {
        CHECK_MESSAGE(text.find(line) != std::string::npos, line);
    }
    CHECK(text.find("MIRRORDISK_SECRET") == std::string::npos);
    CHECK(text.find("\nPATH=/usr/local/sbin:") != std::string::npos);
}

TEST_CASE_FIXTURE(Scene, "at the time limit a hook is killed with all that it started") {
    add("10-hangs", "sleep 1000 & echo $! >" + dir.path() + "/written; echo started; sleep 1000");
    const auto done = run(Occasion::before_demote, 300ms);
    REQUIRE(!done.has_value());
    CHECK(done.error().message.find("killed after 300 ms") != std::string::npos);
    CHECK(outcomes.at(0).output == "started");
    std::istringstream words(written());
    int child = 0;
    words >> child;
    REQUIRE(child > 0);
    const auto is_gone = [&] {
        std::ifstream file(fmt::format("/proc/{}/stat", child));
        std::string pid;
        std::string name;
        std::string state;
        return !(file >> pid >> name >> state) || state == "Z";
    };
    for (int i = 0; i < 1000 && !is_gone(); ++i) {
        ::usleep(10000);
    }
    CHECK(is_gone());
}

TEST_CASE("output is kept in a bounded size, the last of it") {
    const auto end =
        run_child({"sh", "-c", "seq 1 100000; printf 'a\\033[1mb\\n'"}, clean_environment(), 60s);
    REQUIRE(end.has_value());
    CHECK(end->succeeded());
    CHECK(end->output.size() <= 4096);
    CHECK(end->last_words() == "99997; 99998; 99999; 100000; a?[1mb");
}

TEST_CASE("what a program leaves running is not waited for") {
    const auto end = run_child({"sh", "-c", "sleep 5 & echo done"}, clean_environment(), 60s);
    REQUIRE(end.has_value());
    CHECK(end->succeeded());
    CHECK(end->output == "done");
}

TEST_CASE("a program that can't be started is an error that names it") {
    const auto end = run_child({"/does/not/exist"}, clean_environment(), 1s);
    REQUIRE(!end.has_value());
    CHECK(end.error().message.find("/does/not/exist") != std::string::npos);
}

TEST_CASE("the folder is beside the configuration") {
    CHECK(hook_folder("/etc/mirrordisk/mirrordisk.toml") == "/etc/mirrordisk/hooks.d");
}
