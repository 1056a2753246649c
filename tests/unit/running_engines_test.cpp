// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/running_engines.hpp"

#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

struct Proc {
    test::TempDir folder;

    void add(const std::string& process, const std::vector<std::string>& words,
             const std::string& users = fmt::format("{0}\t{0}\t{0}\t{0}", ::geteuid())) {
        std::filesystem::create_directory(folder.file(process));
        std::ofstream(folder.file(process + "/status")) << "Name:\tnbdkit\nUid:\t" << users << '\n';
        std::ofstream file(folder.file(process + "/cmdline"), std::ios::binary);
        for (const std::string& word : words) {
            file << word << '\0';
        }
    }
};

const std::vector<std::string> engine{"nbdkit",
                                      "-f",
                                      "--threads=64",
                                      "-U",
                                      "/run/mirrordisk/r0.sock",
                                      "-P",
                                      "/run/mirrordisk/r0.pid",
                                      "/usr/lib/nbdkit-mirror-plugin.so",
                                      "volume=r0",
                                      "node=alpha",
                                      "config=/run/mirrordisk/r0.settings",
                                      "error_file=/run/mirrordisk/r0.engine-error"};

}  // namespace

TEST_CASE("engines are found by their command lines, whatever else runs") {
    Proc proc;
    proc.add("1", {"init"});
    proc.add("77", engine);
    proc.add("self", engine);  // no process of its own
    proc.add("12x", engine);
    proc.add("78", {});  // of the kernel, or dead
    proc.add("79", {"grep", "volume=r0", "node=alpha", "-U", "/run/mirrordisk/r0.sock"});
    proc.add("80", {"nbdkit", "-U", "relative.sock", "volume=r1", "node=alpha", "error_file=/x"});
    std::filesystem::create_directory(proc.folder.file("81"));  // gone meanwhile
    const auto found = find_engines(proc.folder.path());
    REQUIRE(found.size() == 1);
    CHECK(found[0].pid == 77);
    CHECK(found[0].volume == "r0");
    CHECK(found[0].node == "alpha");
    CHECK(found[0].socket == "/run/mirrordisk/r0.sock");
    CHECK(found[0].run_dir() == "/run/mirrordisk");
    CHECK(found[0].was_given_its_settings());
    CHECK(find_engines(proc.folder.path() + "/none").empty());
}

TEST_CASE("a process that ends while it is looked at is none") {
    Proc proc;
    proc.add("77", engine);
    // Opens, and can't be read: as a process's file when that has just ended.
    std::filesystem::create_directories(proc.folder.file("78/cmdline"));
    CHECK_FALSE(read_process_file(proc.folder.file("78/cmdline")));
    CHECK_FALSE(read_process_file(proc.folder.file("none")));
    CHECK(read_process_file(proc.folder.file("77/cmdline"))->starts_with("nbdkit"));
    CHECK(find_engines(proc.folder.path()).size() == 1);
}

TEST_CASE("what another user runs is no engine of ours, whatever it is called") {
    Proc proc;
    const unsigned us = ::geteuid();
    proc.add("77", engine, fmt::format("{0}\t{0}\t{0}\t{0}", us + 1));
    proc.add("78", engine, fmt::format("{0}\t{1}\t{1}\t{1}", us + 1, us));  // set-user-ID
    proc.add("79", engine, "");
    CHECK(find_engines(proc.folder.path()).empty());
}

TEST_CASE("an engine of an earlier version reads the configuration file") {
    Proc proc;
    std::vector<std::string> words = engine;
    words[10] = "config=/etc/mirrordisk/mirrordisk.toml";
    proc.add("77", words);
    const auto found = find_engines(proc.folder.path());
    REQUIRE(found.size() == 1);
    CHECK_FALSE(found[0].was_given_its_settings());
}
