// SPDX-License-Identifier: BSD-3-Clause
// Who could change a file, and what an own file is opened as. What needs another owner is tried
// where the tests run as root.
#include "core/base/trusted_file.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "core/base/lock_holder.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
namespace fs = std::filesystem;

namespace {

constexpr uid_t stranger = 65533;

struct Scene {
    test::TempDir dir;
    std::string folder = dir.file("etc");
    std::string file = folder + "/f";

    Scene() {
        fs::create_directory(folder);
        mode(folder, 0755);
        put(file, "content\n", 0644);
    }
    static void put(const std::string& path, const std::string& text, mode_t bits) {
        std::ofstream(path) << text;
        mode(path, bits);
    }
    static void mode(const std::string& path, mode_t bits) {
        REQUIRE(::chmod(path.c_str(), bits) == 0);
    }
    static unsigned mode_of(const std::string& path) {
        struct stat found {};
        REQUIRE(::stat(path.c_str(), &found) == 0);
        return found.st_mode & 07777U;
    }
    static void give(const std::string& path) {
        REQUIRE(::lchown(path.c_str(), stranger, stranger) == 0);
    }
    [[nodiscard]] Result<std::string> read(Secrecy secrecy = Secrecy::open) const {
        return read_trusted_file(file, 100, secrecy);
    }
    /// Refused, with words about it and a next step.
    void refused_for(const std::string& words, const std::string& remedy) const {
        const auto got = read();
        REQUIRE_FALSE(got);
        CHECK(got.error().kind == ErrorKind::refused);
        CAPTURE(got.error().text());
        CHECK(got.error().message.find(words) != std::string::npos);
        CHECK(got.error().remedy.find(remedy) != std::string::npos);
    }
};

bool is_root() {
    return ::geteuid() == 0;
}

}  // namespace

TEST_CASE("a file that only we can change is read, below a folder for everybody with sticky bit") {
    const Scene scene;
    REQUIRE((Scene::mode_of("/tmp") & 01777U) == 01777U);  // where the tests are
    CHECK(scene.read() == "content\n");
    CHECK(require_trusted_path(scene.folder + "/../etc/./f") == scene.file);
}

TEST_CASE("a file or a folder above it that others can write is refused, with the command") {
    const Scene scene;
    for (const mode_t bits : {mode_t{0020}, mode_t{0002}}) {
        Scene::mode(scene.file, 0644 | bits);
        scene.refused_for(scene.file + " can be written by users other than its owner",
                          "chmod go-w " + scene.file);
        Scene::mode(scene.file, 0644);
        Scene::mode(scene.folder, 0755 | bits);
        scene.refused_for(scene.folder + " can be written by users other than its owner",
                          "chmod go-w " + scene.folder);
        Scene::mode(scene.folder, 0755);
    }
    CHECK(scene.read());
}

TEST_CASE("the sticky bit protects what is in a folder, and not a folder that is itself meant") {
    const Scene scene;
    Scene::mode(scene.folder, 01777);
    CHECK(scene.read());
    CHECK_FALSE(require_trusted_path(scene.folder));
    if (is_root()) {
        Scene::give(scene.file);
        scene.refused_for(fmt::format("belongs to user {}", stranger), "chown root " + scene.file);
    }
}

TEST_CASE("what belongs to somebody else is refused wherever it is on the path") {
    if (!is_root()) {
        return;
    }
    const Scene scene;
    SUBCASE("the file") {
        Scene::give(scene.file);
    }
    SUBCASE("its folder") {
        Scene::give(scene.folder);
    }
    SUBCASE("the folder above") {
        Scene::give(scene.dir.path());
    }
    scene.refused_for(fmt::format("belongs to user {}", stranger), "chown root ");
}

TEST_CASE("a link is as good as all that it leads through") {
    Scene scene;
    const std::string elsewhere = scene.dir.file("elsewhere");
    fs::create_directory(elsewhere);
    Scene::mode(elsewhere, 0755);
    Scene::put(elsewhere + "/real", "real\n", 0600);
    fs::remove(scene.file);
    fs::create_symlink("../elsewhere/real", scene.file);
    CHECK(scene.read() == "real\n");
    CHECK(require_trusted_path(scene.file) == elsewhere + "/real");
    CHECK_FALSE(require_trusted_path(scene.file, LastLink::refused));
    SUBCASE("a folder behind it that others can write") {
        Scene::mode(elsewhere, 0777);
        scene.refused_for(elsewhere + " can be written by users other than its owner",
                          "chmod go-w");
    }
    SUBCASE("a link of somebody else") {
        if (is_root()) {
            Scene::give(scene.file);
            scene.refused_for("belongs to user", "chown");
        }
    }
    SUBCASE("a circle") {
        fs::remove(scene.file);
        fs::create_symlink("f", scene.file);
        CHECK_FALSE(scene.read());
    }
    SUBCASE("nothing") {
        fs::remove(elsewhere + "/real");
        CHECK(scene.read().error().kind == ErrorKind::not_found);
    }
}

TEST_CASE("a secret is read only where nobody else can, and nothing that its owner can't") {
    const Scene scene;
    for (const mode_t bits : {mode_t{0640}, mode_t{0604}, mode_t{0610}, mode_t{0620}}) {
        Scene::mode(scene.file, bits);
        const auto got = scene.read(Secrecy::secret);
        REQUIRE_FALSE(got);
        CHECK(got.error().remedy == "run: chmod 600 " + scene.file);
    }
    Scene::mode(scene.file, 0400);
    CHECK(scene.read(Secrecy::secret));
    if (is_root()) {  // root reads it, an engine without capabilities does not
        Scene::mode(scene.file, 0000);
        scene.refused_for("can't be read by its owner", "chmod u+r");
    }
}

TEST_CASE("what has no end, or is no file, is not read") {
    const Scene scene;
    CHECK(read_trusted_file(scene.file, 8));
    CHECK_FALSE(read_trusted_file(scene.file, 7));
    CHECK_FALSE(read_trusted_file("/dev/zero", 100));
    CHECK_FALSE(read_trusted_file(scene.folder, 100));
    fs::remove(scene.file);
    REQUIRE(::mkfifo(scene.file.c_str(), 0600) == 0);
    CHECK_FALSE(scene.read());  // and not waited for
    CHECK_FALSE(open_own_file(scene.file, O_RDONLY));
    CHECK_FALSE(open_to_show(scene.file));
}

TEST_CASE("a write is not led elsewhere by a link") {
    const Scene scene;
    const std::string victim = scene.dir.file("victim");
    Scene::put(victim, "precious\n", 0600);
    fs::remove(scene.file);
    fs::create_symlink(victim, scene.file);
    const auto opened = open_own_file(scene.file, O_RDWR | O_CREAT | O_TRUNC);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().message.find("is a symbolic link") != std::string::npos);
    CHECK(fs::file_size(victim) == 9);
    REQUIRE(make_own_file(scene.file));  // in its place
    CHECK(fs::is_regular_file(fs::symlink_status(scene.file)));
    CHECK(fs::file_size(victim) == 9);
}

TEST_CASE("an own file has its mode under any umask, and one of before loses what is beyond") {
    const Scene scene;
    for (const mode_t mask : {mode_t{0}, mode_t{0777}}) {
        const mode_t before = ::umask(mask);
        CHECK(make_own_file(scene.folder + "/new", 0640));
        ::umask(before);
        CHECK(Scene::mode_of(scene.folder + "/new") == 0640);
    }
    Scene::mode(scene.file, 0666);
    CHECK_FALSE(open_own_file(scene.file, O_RDONLY));
    CHECK(open_own_file(scene.file, O_RDWR | O_CREAT, 0600));
    CHECK(Scene::mode_of(scene.file) == 0600);
    CHECK(read_own_file(scene.file, 100) == "content\n");
    if (is_root()) {
        Scene::give(scene.file);
        CHECK_FALSE(open_own_file(scene.file, O_RDWR | O_CREAT, 0600));
        CHECK(open_to_show(scene.file));
    }
}

TEST_CASE("who holds a lock is told by its pid, name and user") {
    const Scene scene;
    const Fd file(::open(scene.file.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    REQUIRE(::fstat(file.get(), &status) == 0);
    CHECK(lock_holder(status).pid == 0);
    REQUIRE(::flock(file.get(), LOCK_EX) == 0);
    const LockHolder holder = lock_holder(status);
    CHECK(holder.pid == ::getpid());
    CHECK(holder.user == fmt::format("{}", ::geteuid()));
    CHECK_FALSE(holder.program.empty());
}
