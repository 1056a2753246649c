// SPDX-License-Identifier: BSD-3-Clause
#include "core/store/file_store.hpp"

#include <atomic>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/checksum.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using Lock = FileStore::Lock;

namespace {

std::vector<std::byte> pattern(std::size_t count) {
    std::vector<std::byte> bytes(count);
    for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<std::byte>(i % 251 + 1);
    }
    return bytes;
}

std::vector<std::byte> read_all(FileStore& store, ByteRange range) {
    std::vector<std::byte> bytes(range.length, std::byte{0xee});
    REQUIRE(store.read(bytes, range.offset).has_value());
    return bytes;
}

std::unique_ptr<FileStore> new_store(const std::string& path, std::uint64_t size) {
    REQUIRE(create_backing_file(path, size).has_value());
    auto store = FileStore::open(path, Lock::exclusive);
    REQUIRE(store.has_value());
    return std::move(*store);
}

/// Fills the store, zeroes the range, and checks that it and nothing else became zero.
void check_zero(FileStore& store, ByteRange range, Space space) {
    CAPTURE(range.offset);
    CAPTURE(range.length);
    std::vector<std::byte> expected = pattern(store.size());
    REQUIRE(store.write(expected, 0).has_value());
    REQUIRE(store.zero(range, space).has_value());
    const auto first = expected.begin() + static_cast<std::ptrdiff_t>(range.offset);
    std::fill(first, first + static_cast<std::ptrdiff_t>(range.length), std::byte{0});
    CHECK(read_all(store, {0, store.size()}) == expected);
}

void check_zero_everywhere(FileStore& store) {
    for (Space space : {Space::may_free, Space::keep_allocated}) {
        check_zero(store, {0, store.size()}, space);
        check_zero(store, {65536, 131072}, space);
        check_zero(store, {512, 512}, space);          // no whole block
        check_zero(store, {4096 + 512, 9000}, space);  // edges on both sides
        check_zero(store, {8192, 4096 + 1}, space);    // an edge behind
        check_zero(store, {8191, 4096 + 1}, space);    // an edge in front
        check_zero(store, {store.size() - 700, 700}, space);
        check_zero(store, {store.size(), 0}, space);
    }
}

std::uint64_t allocated(const std::string& path) {
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

std::string output_of(const std::string& command) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command.c_str(), "r"),
                                                               &::pclose);
    std::string text;
    for (int letter = 0; pipe && (letter = std::fgetc(pipe.get())) != EOF;) {
        text += static_cast<char>(letter);
    }
    return text.substr(0, text.find('\n'));
}

/// A loop device over a file for the time of a test; empty path where that is not allowed here.
class LoopDevice {
  public:
    explicit LoopDevice(const std::string& file) {
        if (::geteuid() == 0) {
            path_ = output_of("losetup --find --show '" + file + "' 2>/dev/null");
        }
    }
    LoopDevice(const LoopDevice&) = delete;
    LoopDevice& operator=(const LoopDevice&) = delete;
    ~LoopDevice() {
        if (!path_.empty()) {
            output_of("losetup --detach " + path_);
        }
    }
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string path_;
};

/// A tmpfs of 1 MiB for the time of a test; empty path where that is not allowed here.
class SmallDisk {
  public:
    SmallDisk() {
        if (::mount("none", dir_.path().c_str(), "tmpfs", 0, "size=1m") == 0) {
            path_ = dir_.path();
        }
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    ~SmallDisk() {
        if (!path_.empty()) {
            ::umount2(path_.c_str(), MNT_DETACH);
        }
    }
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    test::TempDir dir_;
    std::string path_;
};

}  // namespace

TEST_CASE("what was written is read back, also after closing") {
    const test::TempDir dir;
    const std::string path = dir.file("r0.img");
    const std::vector<std::byte> bytes = pattern(100'000);
    {
        auto store = new_store(path, MiB);
        CHECK(store->size() == MiB);
        CHECK(store->path() == path);
        REQUIRE(store->write(bytes, 12345).has_value());
        REQUIRE(store->flush().has_value());
    }
    auto store = FileStore::open(path, Lock::none);
    REQUIRE(store.has_value());
    CHECK(read_all(**store, {12345, bytes.size()}) == bytes);
    CHECK(is_zero(read_all(**store, {0, 12345})));
}

TEST_CASE("nothing beyond the end is touched, whatever the numbers") {
    const test::TempDir dir;
    auto store = new_store(dir.file("r0.img"), 4096);
    std::vector<std::byte> bytes(512);
    CHECK(store->read(bytes, 4096 - 512).has_value());
    CHECK(store->write({}, 4096).has_value());
    const Result<void> beyond = store->write(bytes, 4096 - 511);
    REQUIRE_FALSE(beyond.has_value());
    CHECK(beyond.error().kind == ErrorKind::invalid);
    CHECK(beyond.error().message ==
          dir.file("r0.img") + ": write of 512 bytes at 3585 goes beyond its 4096 bytes");
    CHECK_FALSE(store->read(bytes, ~0ULL).has_value());
    CHECK_FALSE(store->zero({~0ULL, ~0ULL}, Space::may_free).has_value());
    CHECK_FALSE(store->extents({1, 4096}).has_value());
    CHECK(std::filesystem::file_size(dir.file("r0.img")) == 4096);
}

TEST_CASE("a file that was cut short under the store is an error of its own") {
    const test::TempDir dir;
    auto store = new_store(dir.file("r0.img"), 8192);
    REQUIRE(::truncate(dir.file("r0.img").c_str(), 4096) == 0);
    std::vector<std::byte> bytes(8192);
    const Result<void> read = store->read(bytes, 0);
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().kind == ErrorKind::io);
    CHECK(read.error().message == dir.file("r0.img") +
                                      ": read of 8192 bytes at 0: it ends at 4096: it was cut "
                                      "short");
}

TEST_CASE("a zeroed range reads as zeroes and its neighbours stay") {
    const test::TempDir dir;
    auto store = new_store(dir.file("r0.img"), MiB);
    check_zero_everywhere(*store);
}

TEST_CASE("where the filesystem cannot zero a range, zeroes are written") {
    if (!std::filesystem::is_directory("/dev/shm")) {
        MESSAGE("skipped: no /dev/shm, whose tmpfs lacks FALLOC_FL_ZERO_RANGE");
        return;
    }
    const std::string path = fmt::format("/dev/shm/mirrordisk-test-{}", ::getpid());
    auto store = new_store(path, MiB);
    std::filesystem::remove(path);  // the descriptor keeps it
    check_zero_everywhere(*store);
}

TEST_CASE("zeroing may give space back, and gives none back when told so") {
    const test::TempDir dir;
    const std::string path = dir.file("r0.img");
    auto store = new_store(path, MiB);
    REQUIRE(store->write(pattern(MiB), 0).has_value());
    REQUIRE(store->flush().has_value());
    const std::uint64_t full = allocated(path);
    REQUIRE(full >= MiB);
    REQUIRE(store->zero({0, 512 * KiB}, Space::keep_allocated).has_value());
    REQUIRE(store->flush().has_value());
    CHECK(allocated(path) >= MiB);
    REQUIRE(store->zero({0, 512 * KiB}, Space::may_free).has_value());
    REQUIRE(store->flush().has_value());
    CHECK(allocated(path) <= full - 512 * KiB);
}

TEST_CASE("extents tell holes from data and cover the range without gaps") {
    const test::TempDir dir;
    auto store = new_store(dir.file("r0.img"), MiB);
    REQUIRE(store->write(pattern(64 * KiB), 256 * KiB).has_value());

    const auto all = store->extents({0, MiB});
    REQUIRE(all.has_value());
    REQUIRE(all->size() == 3);
    CHECK((*all)[0].range == ByteRange{0, 256 * KiB});
    CHECK((*all)[0].hole);
    CHECK((*all)[1].range == ByteRange{256 * KiB, 64 * KiB});
    CHECK_FALSE((*all)[1].hole);
    CHECK((*all)[2].range == ByteRange{320 * KiB, 704 * KiB});
    CHECK((*all)[2].hole);

    const auto clipped = store->extents({260 * KiB, 70 * KiB});
    REQUIRE(clipped.has_value());
    REQUIRE(clipped->size() == 2);
    CHECK((*clipped)[0].range == ByteRange{260 * KiB, 60 * KiB});
    CHECK((*clipped)[1].range == ByteRange{320 * KiB, 10 * KiB});

    const auto before = store->extents({0, 100});
    REQUIRE(before.has_value());
    REQUIRE(before->size() == 1);
    CHECK((*before)[0].range == ByteRange{0, 100});
    CHECK((*before)[0].hole);
    CHECK(store->extents({MiB, 0})->empty());
}

TEST_CASE("the length of a hole is told, and 0 where there is none") {
    const test::TempDir dir;
    auto store = new_store(dir.file("r0.img"), MiB);
    REQUIRE(store->write(pattern(64 * KiB), 256 * KiB).has_value());
    CHECK(store->hole_length({0, MiB}) == 256 * KiB);
    CHECK(store->hole_length({100, 1000}) == 1000);
    CHECK(store->hole_length({255 * KiB, 2 * KiB}) == KiB);
    CHECK(store->hole_length({256 * KiB, MiB - 256 * KiB}) == 0);
    CHECK(store->hole_length({320 * KiB, MiB - 320 * KiB}) == MiB - 320 * KiB);
    CHECK(store->hole_length({0, MiB + 1}) == 0);
    CHECK(is_hole(*store, {0, 256 * KiB}));
    CHECK_FALSE(is_hole(*store, {0, 256 * KiB + 1}));
}

TEST_CASE("a second owner is refused, and told who has it") {
    const test::TempDir dir;
    auto store = new_store(dir.file("r0.img"), 4096);
    const auto second = FileStore::open(dir.file("r0.img"), Lock::exclusive);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().kind == ErrorKind::busy);
    CHECK(second.error().message ==
          fmt::format("{}: is in use by process {}", dir.file("r0.img"), ::getpid()));
    CHECK(FileStore::open(dir.file("r0.img"), Lock::none).has_value());
    store.reset();
    CHECK(FileStore::open(dir.file("r0.img"), Lock::exclusive).has_value());
}

TEST_CASE("only files and devices of whole sectors are opened") {
    const test::TempDir dir;
    std::ofstream(dir.file("odd")) << "x";
    REQUIRE(::mkfifo(dir.file("pipe").c_str(), 0600) == 0);
    CHECK(FileStore::open(dir.file("odd"), Lock::none).error().message ==
          dir.file("odd") + ": its size of 1 bytes is not a multiple of 512");
    CHECK(FileStore::open(dir.file("none"), Lock::none).error().kind == ErrorKind::not_found);
    for (const std::string& path : {dir.file("pipe"), dir.path(), std::string("/dev/null")}) {
        CHECK(FileStore::open(path, Lock::none).error().message ==
              path + ": is neither a file nor a block device");
        CHECK_FALSE(inspect_backing(path).has_value());
    }
}

TEST_CASE("a backing file is made once, and described") {
    const test::TempDir dir;
    const std::string path = dir.file("r0.img");
    CHECK_FALSE(inspect_backing(path)->exists);
    CHECK(create_backing_file(path, 1000).error().kind == ErrorKind::invalid);
    CHECK_FALSE(inspect_backing(path)->exists);
    REQUIRE(create_backing_file(path, 10 * GiB).has_value());
    CHECK(allocated(path) < MiB);
    const Result<BackingInfo> empty = inspect_backing(path);
    REQUIRE(empty.has_value());
    CHECK(empty->exists);
    CHECK_FALSE(empty->is_block_device);
    CHECK(empty->size == 10 * GiB);
    CHECK_FALSE(empty->has_data);

    const Result<void> again = create_backing_file(path, 4096);
    CHECK(again.error().kind == ErrorKind::refused);
    CHECK(again.error().message == path + ": exists already, and is left as it is");
    REQUIRE(FileStore::open(path, Lock::none).value()->write(pattern(1), 5 * GiB).has_value());
    CHECK(inspect_backing(path)->has_data);
    CHECK(create_backing_file(dir.file("none/r0.img"), 512).error().kind == ErrorKind::not_found);
}

TEST_CASE("a limit on the size of files is told as no space") {
    const test::TempDir dir;
    auto store = new_store(dir.file("r0.img"), MiB);
    rlimit saved{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &saved) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{.rlim_cur = 64 * KiB, .rlim_max = saved.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const Result<void> written = store->write(pattern(128 * KiB), 0);
    const Result<void> made = create_backing_file(dir.file("r1.img"), MiB);
    ::setrlimit(RLIMIT_FSIZE, &saved);
    std::signal(SIGXFSZ, handler);

    REQUIRE_FALSE(written.has_value());
    CHECK(written.error().kind == ErrorKind::no_space);
    CHECK(written.error().message ==
          dir.file("r0.img") + ": write of 131072 bytes at 0: File too large");
    CHECK(made.error().kind == ErrorKind::no_space);
    CHECK_FALSE(std::filesystem::exists(dir.file("r1.img")));
}

TEST_CASE("a full disk is told as no space") {
    const SmallDisk disk;
    if (disk.path().empty()) {
        MESSAGE("skipped: no right to mount a tmpfs");
        return;
    }
    const std::string path = disk.path() + "/r0.img";
    auto store = new_store(path, 4 * MiB);
    const Result<void> written = store->write(pattern(2 * MiB), 0);
    REQUIRE_FALSE(written.has_value());
    CHECK(written.error().kind == ErrorKind::no_space);
    CHECK(written.error().message ==
          path + ": write of 2097152 bytes at 0: No space left on device");
    CHECK(store->zero({0, 4 * MiB}, Space::keep_allocated).error().kind == ErrorKind::no_space);
    CHECK(store->zero({0, 4 * MiB}, Space::may_free).has_value());
    CHECK(store->write(pattern(64 * KiB), 0).has_value());
}

TEST_CASE("flushes from many threads all end well") {
    const test::TempDir dir;
    auto store = new_store(dir.file("r0.img"), MiB);
    std::atomic<int> done{0};
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 4; ++i) {
        threads.emplace_back([&store, &done, i] {
            const std::vector<std::byte> bytes = pattern(4096);
            for (int round = 0; round < 25; ++round) {
                if (store->write(bytes, i * 4096) && store->flush()) {
                    ++done;
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(done == 100);
}

TEST_CASE("a block device is a store too") {
    const test::TempDir dir;
    REQUIRE(create_backing_file(dir.file("disk.img"), 4 * MiB).has_value());
    const LoopDevice loop(dir.file("disk.img"));
    if (loop.path().empty()) {
        MESSAGE("skipped: no right to make a loop device");
        return;
    }
    const Result<BackingInfo> info = inspect_backing(loop.path());
    REQUIRE(info.has_value());
    CHECK(info->is_block_device);
    CHECK(info->size == 4 * MiB);
    CHECK(info->has_data);

    auto store = FileStore::open(loop.path(), Lock::exclusive);
    REQUIRE(store.has_value());
    CHECK((*store)->size() == 4 * MiB);
    check_zero_everywhere(**store);
    CHECK((*store)->flush().has_value());
    const auto extents = (*store)->extents({512, 8192});
    REQUIRE(extents.has_value());
    REQUIRE(extents->size() == 1);
    CHECK((*extents)[0].range == ByteRange{512, 8192});
    CHECK_FALSE((*extents)[0].hole);
    CHECK((*store)->hole_length({512, 8192}) == 0);

    const auto second = FileStore::open(loop.path(), Lock::exclusive);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().kind == ErrorKind::busy);
    CHECK(second.error().message.starts_with(loop.path() + ": is "));
}

TEST_CASE("after a failed flush no later one succeeds") {
    const SmallDisk disk;
    if (disk.path().empty()) {
        MESSAGE("skipped: no right to mount a tmpfs");
        return;
    }
    REQUIRE(create_backing_file(disk.path() + "/disk.img", 8 * MiB).has_value());
    const LoopDevice loop(disk.path() + "/disk.img");
    if (loop.path().empty()) {
        MESSAGE("skipped: no right to make a loop device");
        return;
    }
    auto store = FileStore::open(loop.path(), Lock::exclusive);
    REQUIRE(store.has_value());
    // The page cache takes it; the full filesystem below the device does not.
    REQUIRE((*store)->write(pattern(4 * MiB), 0).has_value());
    const Result<void> first = (*store)->flush();
    REQUIRE_FALSE(first.has_value());
    CHECK(first.error().message.starts_with(loop.path() + ": flush: "));
    CHECK_FALSE((*store)->flush().has_value());
}
