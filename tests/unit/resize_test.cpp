// SPDX-License-Identifier: BSD-3-Clause
// What a resize is built from: which size, longer backings, larger metadata.
#include <fstream>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "core/meta/meta_file.hpp"
#include "core/store/grow.hpp"
#include "daemon/resize_plan.hpp"
#include "tests/unit/superblocks.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

const ResizeSide alpha{"alpha", 10 * GiB, 10 * GiB, false};
const ResizeSide beta{"beta", 10 * GiB, 10 * GiB, false};

ResizeWish total(std::uint64_t size) {
    return {"r0", size, std::nullopt};
}

std::string reason(const Result<std::uint64_t>& result) {
    REQUIRE_FALSE(result);
    return result.error().message;
}

ResizeSide device(std::string node, std::uint64_t replica, std::uint64_t backing) {
    return {std::move(node), replica, backing, true};
}

bool go_on() {
    return false;
}

std::uint64_t size_of(const std::string& path) {
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

TEST_CASE("a size may be the whole or what is added") {
    CHECK(choose_size(total(20 * GiB), alpha, beta).value() == 20 * GiB);
    CHECK(choose_size({"r0", std::nullopt, 5 * GiB}, alpha, beta).value() == 15 * GiB);
    CHECK(choose_size(total(10 * GiB), alpha, beta).value() == 10 * GiB);
}

TEST_CASE("a configuration that has another size is to be corrected, and says to what") {
    VolumeConfig volume{.name = "r0"};
    CHECK(size_reminder(volume, MiB).empty());
    volume.size = 256 * MiB;
    CHECK(size_reminder(volume, 256 * MiB).empty());
    CHECK(size_reminder(volume, 320 * MiB) ==
          "; set size = \"320MiB\" in [volume.r0] of the configuration of both nodes, where it is "
          "256 "
          "MiB");
    CHECK(size_reminder(volume, 2 * GiB).find("\"2GiB\"") != std::string::npos);
    CHECK(size_reminder(volume, 512).find("\"512B\"") != std::string::npos);
}

TEST_CASE("shrinking is refused, and what no disk can have") {
    CHECK(reason(choose_size(total(9 * GiB), alpha, beta)).find("never shrinks") !=
          std::string::npos);
    CHECK(reason(choose_size(total(10 * GiB + 100), alpha, beta)).find("multiple of 512") !=
          std::string::npos);
    CHECK_FALSE(choose_size(total(0), alpha, beta));
    CHECK_FALSE(choose_size(total(9000 * TiB), alpha, beta));
    CHECK_FALSE(choose_size({"r0", std::nullopt, ~std::uint64_t{0}}, alpha, beta));
}

TEST_CASE("a device must have what is wanted, and those that have not are named") {
    const ResizeSide large = device("alpha", 10 * GiB, 20 * GiB);
    const ResizeSide small = device("beta", 10 * GiB, 12 * GiB + 100);
    const std::string text = reason(choose_size(total(20 * GiB), large, small));
    CHECK(text.find("beta has 12.0 GiB (12884901988 bytes)") != std::string::npos);
    CHECK(text.find("alpha") == std::string::npos);
    CHECK(choose_size(total(12 * GiB), large, small).value() == 12 * GiB);
}

TEST_CASE("without a size a volume takes what the devices have; files must be told") {
    const ResizeWish nothing{"r0", std::nullopt, std::nullopt};
    CHECK(choose_size(nothing, device("alpha", 10 * GiB, 20 * GiB),
                      device("beta", 10 * GiB, 12 * GiB + 100))
              .value() == 12 * GiB);
    CHECK(choose_size(nothing, device("alpha", 10 * GiB, 20 * GiB), beta).value() == 20 * GiB);
    CHECK(reason(choose_size(nothing, alpha, beta)).find("give the new size") != std::string::npos);
}

TEST_CASE("a resize that was cut short is finished, never undone") {
    ResizeSide grown = beta;
    grown.replica = 20 * GiB;
    const ResizeWish nothing{"r0", std::nullopt, std::nullopt};
    CHECK(choose_size(nothing, alpha, grown).value() == 20 * GiB);
    CHECK(choose_size(nothing, grown, alpha).value() == 20 * GiB);
    CHECK(choose_size(total(30 * GiB), alpha, grown).value() == 30 * GiB);
    CHECK(reason(choose_size(total(15 * GiB), alpha, grown)).find("cut short") !=
          std::string::npos);
}

TEST_CASE("a longer backing keeps what it had, and the new part is zeroes whatever was there") {
    const test::TempDir dir;
    const std::string path = dir.path() + "/backing";
    const std::uint64_t old = 8 * KiB + 512;
    std::ofstream(path, std::ios::binary) << std::string(20000, 'x');
    REQUIRE(::truncate(path.c_str(), 20480) == 0);
    REQUIRE(grow_backing(path, old, 1 * MiB, go_on));
    CHECK(size_of(path) == 1 * MiB);
    auto store = FileStore::open(path, FileStore::Lock::exclusive);
    REQUIRE(store);
    std::vector<std::byte> data(1 * MiB);
    REQUIRE((*store)->read(data, 0));
    CHECK(std::all_of(data.begin(), data.begin() + old,
                      [](std::byte byte) { return byte == std::byte{'x'}; }));
    CHECK(std::all_of(data.begin() + old, data.end(),
                      [](std::byte byte) { return byte == std::byte{0}; }));
    SUBCASE("a file that is longer than the volume stays so") {
        REQUIRE(grow_backing(path, old, 512 * KiB, go_on));
        CHECK(size_of(path) == 1 * MiB);
    }
    SUBCASE("told to stop, it leaves the file as long as it was") {
        const auto stopped = grow_backing(path, old, 2 * MiB, [] { return true; });
        REQUIRE_FALSE(stopped);
        CHECK(stopped.error().kind == ErrorKind::busy);
        CHECK(size_of(path) == 1 * MiB);
    }
}

TEST_CASE("a store uses the first part of a longer file") {
    const test::TempDir dir;
    const std::string path = dir.path() + "/backing";
    REQUIRE(create_backing_file(path, 1 * MiB));
    auto store = FileStore::open(path, FileStore::Lock::exclusive);
    REQUIRE(store);
    REQUIRE((*store)->use_first(512 * KiB));
    CHECK((*store)->size() == 512 * KiB);
    std::vector<std::byte> sector(512);
    CHECK_FALSE((*store)->write(sector, 512 * KiB));
    CHECK_FALSE((*store)->use_first(1 * MiB));
}

TEST_CASE("larger metadata know all that the old ones knew, and nothing about the new part") {
    const test::TempDir dir;
    const std::string path = dir.path() + "/r0/meta";
    const std::uint64_t old = 3 * GiB + 8 * KiB;
    const std::uint64_t wanted = 700 * GiB;
    Superblock before;
    {
        auto meta = create_meta(path, test::full_superblock(old));
        REQUIRE(meta);
        for (const MapKind kind : {MapKind::intent, MapKind::suspect, MapKind::changed}) {
            Bitmap bits(map_bits(kind, old));
            const auto shift = static_cast<std::uint64_t>(kind);
            bits.set({shift, shift + 3});
            bits.set({bits.size() - 2, bits.size()});
            REQUIRE((*meta)->write_map(kind, bits));
        }
        REQUIRE((*meta)->sync());
        before = (*meta)->superblock();
    }
    // What an attempt left that was cut short.
    std::ofstream(path + ".larger") << "half a file";
    REQUIRE(grow_meta(path, wanted));
    CHECK(::access((path + ".larger").c_str(), F_OK) != 0);
    {
        auto meta = open_meta(path);
        REQUIRE(meta);
        const Superblock block = (*meta)->superblock();
        CHECK(block.size == wanted);
        CHECK(block.sequence > before.sequence);
        CHECK(block.lineage == before.lineage);
        CHECK(block.session == before.session);
        CHECK(block.role == before.role);
        for (const MapKind kind : {MapKind::intent, MapKind::suspect, MapKind::changed}) {
            const auto bits = (*meta)->read_map(kind);
            REQUIRE(bits);
            const auto shift = static_cast<std::uint64_t>(kind);
            const std::uint64_t end = map_bits(kind, old);
            CHECK(bits->size() == map_bits(kind, wanted));
            CHECK(bits->count() == 5);
            CHECK(bits->all({shift, shift + 3}));
            CHECK(bits->all({end - 2, end}));
        }
        CHECK((*meta)->damage().sectors == 0);
    }
    CHECK(grow_meta(path, wanted));
    const auto refused = grow_meta(path, old);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("never shrinks") != std::string::npos);
}

TEST_CASE("metadata that are in use are not laid out anew") {
    const test::TempDir dir;
    const std::string path = dir.path() + "/r0/meta";
    auto meta = create_meta(path, test::full_superblock(1 * GiB));
    REQUIRE(meta);
    const auto refused = grow_meta(path, 2 * GiB);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind == ErrorKind::busy);
}
