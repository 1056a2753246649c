// SPDX-License-Identifier: BSD-3-Clause
// Files that mirrord makes for itself: their modes, and what a mark of an earlier boot is worth.
#include <filesystem>
#include <fstream>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "core/base/put_file.hpp"
#include "daemon/active_mark.hpp"
#include "daemon/boot.hpp"
#include "daemon/rto.hpp"
#include "daemon/service.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

class Umask {
  public:
    explicit Umask(mode_t mask) : before_(::umask(mask)) {}
    Umask(const Umask&) = delete;
    Umask& operator=(const Umask&) = delete;
    ~Umask() { ::umask(before_); }

  private:
    mode_t before_;
};

unsigned mode_of(const std::string& path) {
    struct stat found {};
    REQUIRE(::stat(path.c_str(), &found) == 0);
    return found.st_mode & 07777U;
}

std::string content_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE(
    "a file has the mode that was asked for under every umask, and its old content or its new") {
    const test::TempDir dir;
    const std::string path = dir.file("f");
    for (const mode_t mask : {mode_t{0}, mode_t{022}, mode_t{077}, mode_t{0777}}) {
        CAPTURE(mask);
        const Umask umask(mask);
        REQUIRE(put_file(path, fmt::format("{}", mask), 0640));
        CHECK(mode_of(path) == 0640);
        CHECK(content_of(path) == fmt::format("{}", mask));
    }
    CHECK_FALSE(put_file(dir.file("none/f"), "x", 0600));
    std::filesystem::create_directory(path + ".new");
    CHECK_FALSE(put_file(path, "other", 0600));
    CHECK(content_of(path) == fmt::format("{}", 0777));
}

TEST_CASE("what mirrord makes at its start nobody else can write, under no umask at all") {
    const test::TempDir dir;
    const Umask umask(0);
    NodeConfig node;
    node.run_dir = dir.file("a/b/run");
    node.state_dir = dir.file("c/d/state");
    REQUIRE(make_directories(node));
    REQUIRE(make_directories(node));  // again, where they are
    note_boot_decided(node, "r0");
    REQUIRE(make_folder(node.state_dir + "/r0", 0700));
    write_rto(node, "r0", Stopwatch(system_clock()));
    REQUIRE(write_active_mark(node.run_dir + "/r0.active", boot_id(), false));
    REQUIRE(Instance::claim(node.run_dir));
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path())) {
        CAPTURE(entry.path().string());
        CHECK((mode_of(entry.path().string()) & 0022U) == 0);
    }
    CHECK(mode_of(node.state_dir) == 0700);
    CHECK(mode_of(node.run_dir) == 0755);
    CHECK(mode_of(node.run_dir + "/r0.boot") == 0644);
    CHECK(mode_of(node.state_dir + "/r0/rto.json") == 0600);
}

TEST_CASE("a mark that a volume is active counts in the boot in which it was made") {
    const test::TempDir dir;
    const std::string path = dir.file("r0.active");
    CHECK_FALSE(read_active_mark(path, "one").is_there);
    for (const bool waits : {false, true}) {
        REQUIRE(write_active_mark(path, "one", waits));
        CHECK(read_active_mark(path, "one").counts());
        CHECK(read_active_mark(path, "one").waits_for_peer == waits);
        CHECK_FALSE(read_active_mark(path, "two").counts());
        CHECK(read_active_mark(path, "two").is_there);
        CHECK(read_active_mark(path, "two").waits_for_peer == waits);
    }
    for (const char* other : {"", "waits for the peer\n", "on"}) {
        CAPTURE(other);
        std::ofstream(path, std::ios::trunc) << other;
        CHECK(read_active_mark(path, "one").is_there);
        CHECK_FALSE(read_active_mark(path, "one").counts());
    }
}

TEST_CASE("a boot that was decided is decided until the next one") {
    const test::TempDir dir;
    NodeConfig node;
    node.run_dir = dir.path();
    CHECK_FALSE(is_boot_decided(node, "r0"));
    note_boot_decided(node, "r0");
    CHECK(is_boot_decided(node, "r0"));
    std::ofstream(dir.file("r0.boot"), std::ios::trunc) << "another-boot\n";
    CHECK_FALSE(is_boot_decided(node, "r0"));
}
