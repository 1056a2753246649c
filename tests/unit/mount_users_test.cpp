// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/mount_users.hpp"

#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <doctest/doctest.h>

#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

/// A /proc of processes that are not there.
struct FakeProc {
    test::TempDir dir;

    std::string add(int pid, const std::string& name) {
        const std::string process = dir.path() + "/" + std::to_string(pid);
        std::filesystem::create_directories(process + "/fd");
        std::ofstream(process + "/comm") << name << "\n";
        link(process + "/cwd", "/");
        link(process + "/root", "/");
        link(process + "/exe", "/usr/bin/" + name);
        return process;
    }
    static void link(const std::string& path, const std::string& target) {
        std::filesystem::remove(path);
        std::filesystem::create_symlink(target, path);
    }
    std::vector<MountUser> users(MountUserLimits limits = {}) const {
        return find_mount_users("/srv/data", dir.path(), limits);
    }
};

}  // namespace

TEST_CASE_FIXTURE(FakeProc, "each way to keep a mount busy is found and named") {
    FakeProc::link(add(10, "bash") + "/cwd", "/srv/data");
    FakeProc::link(add(11, "postgres") + "/fd/3", "/srv/data/base/1 (deleted)");
    FakeProc::link(add(12, "tool") + "/exe", "/srv/data/bin/tool");
    FakeProc::link(add(13, "jailed") + "/root", "/srv/data/jail");
    std::ofstream(add(14, "reader") + "/maps")
        << "7f00-7f01 r--p 00000000 fd:01 7    /lib/libc.so\n"
        << "7f02-7f03 r--s 00000000 2b:00 9    /srv/data/index\n";
    FakeProc::link(add(15, "other") + "/cwd", "/srv/database");  // no part of it
    std::filesystem::create_directories(dir.path() + "/self/fd");
    const auto found = users();
    CHECK(found.size() == 5);
    const std::string text = words(found);
    for (const char* each :
         {"bash (pid 10, working directory)",
          "postgres (pid 11, /srv/data/base/1 (deleted) is open)", "tool (pid 12, program)",
          "jailed (pid 13, root directory)", "reader (pid 14, /srv/data/index is mapped)"}) {
        CHECK_MESSAGE(text.find(each) != std::string::npos, text);
    }
}

TEST_CASE_FIXTURE(FakeProc, "many users are not all named") {
    for (int pid = 1; pid < 50; ++pid) {
        FakeProc::link(add(pid, "bash") + "/cwd", "/srv/data/home");
    }
    CHECK(users().size() == 8);
    CHECK(users({.time = std::chrono::milliseconds(-1)}).empty());
}

TEST_CASE("a real process is found by its open file") {
    const test::TempDir dir;
    const std::string directory = std::filesystem::canonical(dir.path());
    CHECK(find_mount_users(directory).empty());
    const std::ofstream file(directory + "/open");
    const auto found = find_mount_users(directory);
    REQUIRE(found.size() == 1);
    CHECK(found[0].pid == ::getpid());
    CHECK(found[0].how == directory + "/open is open");
}
