// SPDX-License-Identifier: BSD-3-Clause
#include "core/meta/meta_file.hpp"

#include <random>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "tests/unit/memory_store.hpp"
#include "tests/unit/superblocks.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using test::full_superblock;
using test::MemoryDisk;

namespace {

// Three pages of chunks of the changed map and a bit.
constexpr std::uint64_t volume_size = 25 * Bitmap::chunk_bits * block_size + 8192;
constexpr std::uint64_t changed_bits = volume_size / block_size;
constexpr std::uint64_t maps_at = 64 * KiB;
/// After one page each of intent and suspect.
constexpr std::uint64_t changed_at = maps_at + 2 * 4096;

std::unique_ptr<MetaFile> format(MemoryDisk& disk) {
    auto file = MetaFile::format(disk.open(), full_superblock(volume_size));
    REQUIRE(file);
    return std::move(*file);
}

std::unique_ptr<MetaFile> load(MemoryDisk& disk) {
    auto file = MetaFile::load(disk.open(), "disk");
    REQUIRE_MESSAGE(file, (file ? "" : file.error().message));
    return std::move(*file);
}

void check_same(const Bitmap& a, const Bitmap& b) {
    REQUIRE(a.size() == b.size());
    CHECK(a.count() == b.count());
    Bitmap both(a.size());
    both.merge(a);
    both.merge(b);
    CHECK(both.count() == a.count());
}

}  // namespace

TEST_CASE("what was updated is there after a load") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    for (int i = 0; i < 5; ++i) {
        REQUIRE(file->update([](Superblock& block) { ++block.media_errors; }));
        CHECK(load(disk)->superblock().sequence == file->superblock().sequence);
        CHECK(load(disk)->superblock().media_errors == file->superblock().media_errors);
    }
    CHECK(load(disk)->superblock().lineage == file->superblock().lineage);
}

TEST_CASE("what a dead process left unflushed is durable before anybody builds on it") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto dying = format(disk);
    disk.fail_flushes(true);
    const auto begin_generation = [](Superblock& block) {
        block.lineage.begin(random_id<GenerationId>(), {}, "alpha", GenerationReason::peer_lost);
    };
    CHECK_FALSE(dying->update(begin_generation));
    dying.reset();
    disk.fail_flushes(false);
    // The page cache has the newer slot; the only durable one is what the next update overwrites.
    const auto next = load(disk);
    const Superblock seen = next->superblock();
    disk.fail_flushes(true);
    CHECK_FALSE(next->update(begin_generation));
    disk.fail_flushes(false);
    disk.cut_power([](std::size_t i) { return i == 0; });
    CHECK(load(disk)->superblock().sequence == seen.sequence);
    CHECK(load(disk)->superblock().lineage == seen.lineage);
}

TEST_CASE("a superblock update cut off anywhere leaves the old one or the new one") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    REQUIRE(file->update([](Superblock& block) { block.media_errors = 1; }));
    disk.fail_flushes(true);
    REQUIRE(!file->update([](Superblock& block) { block.media_errors = 2; }));
    CHECK(file->superblock().media_errors == 1);
    const std::size_t sectors = disk.unflushed();
    REQUIRE(sectors == superblock_slot_size / 512);
    std::mt19937 random(1);
    bool old_seen = false;
    for (std::size_t round = 0; round < 2 * sectors + 200; ++round) {
        MemoryDisk cut(disk);
        const std::size_t one = round / 2;
        cut.cut_power([&](std::size_t i) {
            if (one < sectors) {
                return round % 2 == 0 ? i == one : i != one;  // only one kept, only one lost
            }
            return round % 3 == 0 ? i < round % sectors : random() % 2 == 0;
        });
        const std::uint64_t found = load(cut)->superblock().media_errors;
        CHECK((found == 1 || found == 2));
        old_seen = old_seen || found == 1;
    }
    disk.fail_flushes(false);
    disk.cut_power([](std::size_t) { return true; });
    CHECK(load(disk)->superblock().media_errors == 2);
    CHECK(old_seen);
}

TEST_CASE("a failed update is repeated into the same slot, never onto the good one") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    disk.fail_flushes(true);
    for (int i = 0; i < 3; ++i) {
        CHECK(!file->update([](Superblock& block) { block.media_errors = 7; }));
    }
    disk.fail_flushes(false);
    disk.cut_power([](std::size_t i) { return i % 2 == 0; });
    CHECK(load(disk)->superblock().sequence == file->superblock().sequence);
}

TEST_CASE("maps survive, whichever chunks were written in whatever order") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    Bitmap bits(changed_bits);
    std::mt19937_64 random(3);
    for (int step = 0; step < 60; ++step) {
        const std::uint64_t chunk = random() % bits.chunk_count();
        const std::uint64_t first = chunk * Bitmap::chunk_bits + random() % 3000;
        const BitRange range{first, first + random() % 900};
        if (random() % 3 == 0) {
            bits.clear(range);
        } else {
            bits.set(range);
        }
        REQUIRE(file->write_chunks(MapKind::changed, bits, {chunk, chunk}));
        if (step % 10 == 0) {
            auto other = load(disk);
            check_same(other->read_map(MapKind::changed).value(), bits);
            CHECK(other->damage().sectors == 0);
            file = std::move(other);  // which does not know what the former one has begun
        }
    }
    CHECK(file->read_map(MapKind::intent).value().empty());
    CHECK(file->read_map(MapKind::suspect).value().empty());
}

TEST_CASE("maps keep apart, and a whole map replaces what was there") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    Bitmap intent(map_bits(MapKind::intent, volume_size));
    intent.set({3, 5});
    Bitmap changed(changed_bits);
    changed.set({0, 10});
    changed.set({changed_bits - 1, changed_bits});
    REQUIRE(file->write_map(MapKind::intent, intent));
    REQUIRE(file->write_map(MapKind::changed, changed));
    check_same(file->read_map(MapKind::intent).value(), intent);
    check_same(file->read_map(MapKind::changed).value(), changed);

    Bitmap next(changed_bits);
    next.set({20000, 20001});
    REQUIRE(file->write_map(MapKind::changed, next));
    REQUIRE(file->sync());
    CHECK(disk.unflushed() == 0);
    check_same(load(disk)->read_map(MapKind::changed).value(), next);
    check_same(load(disk)->read_map(MapKind::intent).value(), intent);
}

TEST_CASE("adjacent chunks are one write") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    Bitmap bits(changed_bits);
    bits.set({10 * Bitmap::chunk_bits, 10 * Bitmap::chunk_bits + 1});
    const std::uint64_t before = disk.writes();
    REQUIRE(file->write_chunks(MapKind::changed, bits, {9, 8, 10, 12, 11}));
    CHECK(disk.writes() == before + 1);
    REQUIRE(file->write_chunks(MapKind::changed, bits, {9, 10, 12}));
    CHECK(disk.writes() == before + 3);
}

TEST_CASE("a damaged map sector counts as all ones, and only that one") {
    MemoryDisk disk(meta_file_size(volume_size));
    {
        auto file = format(disk);
        Bitmap bits(changed_bits);
        bits.set_all();
        REQUIRE(file->write_map(MapKind::changed, bits));
        bits.clear_all();
        bits.set({5, 6});
        REQUIRE(file->write_map(MapKind::changed, bits));
    }
    for (std::uint64_t chunk = 0; chunk < divide_up(changed_bits, Bitmap::chunk_bits); ++chunk) {
        for (std::uint64_t byte : {0U, 4U, 7U, 8U, 16U, 17U, 511U}) {
            MemoryDisk damaged(disk);
            damaged.damage(changed_at + chunk * 512 + byte, std::byte{0x04});
            auto file = load(damaged);
            const Bitmap bits = file->read_map(MapKind::changed).value();
            CHECK(file->damage().sectors == 1);
            const BitRange lost{chunk * Bitmap::chunk_bits, (chunk + 1) * Bitmap::chunk_bits};
            CHECK(bits.all(lost));
            const std::uint64_t ones = std::min(lost.last, changed_bits) - lost.first;
            CHECK(file->damage().bytes == ones * block_size);
            CHECK(bits.count() == ones + (chunk == 0 ? 0 : 1));
        }
    }
}

TEST_CASE("a sector that turned to zeroes or can't be read is all ones, too") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    Bitmap bits(changed_bits);
    bits.set({5, 6});
    REQUIRE(file->write_chunks(MapKind::changed, bits, {0}));
    SUBCASE("zeroes") {
        REQUIRE(disk.open()->zero({changed_at + 512, 512}, Space::keep_allocated));
        CHECK(load(disk)->read_map(MapKind::changed).value().count() == Bitmap::chunk_bits + 1);
    }
    SUBCASE("unreadable") {
        disk.fail_reads({changed_at, 1});
        CHECK(load(disk)->read_map(MapKind::changed).value().count() == 8 * Bitmap::chunk_bits);
    }
}

TEST_CASE("a map write cut off anywhere never loses a bit that was durable") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    Bitmap before(changed_bits);
    before.set({5, 6});
    before.set({9 * Bitmap::chunk_bits, 9 * Bitmap::chunk_bits + 7});
    REQUIRE(file->write_map(MapKind::changed, before));
    REQUIRE(file->sync());
    Bitmap after(changed_bits);
    after.merge(before);
    after.set({0, 20 * Bitmap::chunk_bits});
    REQUIRE(file->write_map(MapKind::changed, after));
    std::mt19937 random(4);
    for (int round = 0; round < 50; ++round) {
        MemoryDisk cut(disk);
        cut.cut_power([&](std::size_t) { return random() % 2 == 0; });
        const Bitmap found = load(cut)->read_map(MapKind::changed).value();
        CHECK(found.test(5));
        CHECK(found.all({9 * Bitmap::chunk_bits, 9 * Bitmap::chunk_bits + 7}));
    }
}

TEST_CASE("blocks of the filesystem that are larger than a page make no ones") {
    MemoryDisk disk(meta_file_size(volume_size), 64 * KiB);
    auto file = format(disk);
    Bitmap bits(changed_bits);
    bits.set({5, 6});
    REQUIRE(file->write_chunks(MapKind::changed, bits, {0}));
    auto other = load(disk);
    check_same(other->read_map(MapKind::changed).value(), bits);
    CHECK(other->damage().sectors == 0);
}

TEST_CASE("the metadata of 16 TiB is read in proportion to what was written") {
    MemoryDisk disk(meta_file_size(16 * TiB));
    auto made = MetaFile::format(disk.open(), full_superblock(16 * TiB));
    REQUIRE(made);
    Bitmap bits(map_bits(MapKind::changed, 16 * TiB));
    bits.set({bits.size() - 1, bits.size()});
    REQUIRE((*made)->write_map(MapKind::changed, bits));
    const std::uint64_t before = disk.bytes_read();
    auto file = load(disk);
    CHECK(file->read_map(MapKind::changed).value().count() == 1);
    CHECK(disk.bytes_read() - before < 64 * KiB);
}

TEST_CASE("a file that is too short or garbled is refused by name") {
    MemoryDisk empty(meta_file_size(volume_size));
    const auto nothing = MetaFile::load(empty.open(), "/state/r0/meta");
    REQUIRE(!nothing);
    CHECK(nothing.error().kind == ErrorKind::corrupt);
    CHECK(nothing.error().message ==
          "/state/r0/meta: neither superblock is valid (the first: it was never written; the "
          "second: it was never written)");
    CHECK(!nothing.error().remedy.empty());

    MemoryDisk tiny(512);
    CHECK(MetaFile::load(tiny.open(), "/state/r0/meta").error().message ==
          "/state/r0/meta: 512 bytes are too few for a metadata file");

    MemoryDisk whole(meta_file_size(volume_size));
    format(whole);
    MemoryDisk cut_short(maps_at);
    std::vector<std::byte> front(maps_at);
    REQUIRE(whole.open()->read(front, 0));
    REQUIRE(cut_short.open()->write(front, 0));
    CHECK(MetaFile::load(cut_short.open(), "x").error().kind == ErrorKind::corrupt);
    CHECK(!MetaFile::format(tiny.open(), full_superblock(volume_size)));
}

TEST_CASE("zeroes are not written where nothing was ever written") {
    MemoryDisk disk(meta_file_size(volume_size));
    auto file = format(disk);
    disk.be_full(true);
    Bitmap bits(changed_bits);
    REQUIRE(file->write_chunks(MapKind::changed, bits, {0, 3, 17}));
    bits.set({5, 6});
    const auto written = file->write_chunks(MapKind::changed, bits, {0, 3, 17});
    REQUIRE_FALSE(written);
    CHECK(written.error().kind == ErrorKind::no_space);
}

TEST_CASE("a metadata file is made once, with its space and for root alone") {
    const test::TempDir directory;
    const std::string path = meta_path(directory.file("state"), "r0");
    CHECK(open_meta(path).error().kind == ErrorKind::not_found);
    const Superblock first = full_superblock(1 * TiB);
    {
        auto made = create_meta(path, first);
        REQUIRE_MESSAGE(made, (made ? "" : made.error().message));
        CHECK((*made)->superblock().volume == first.volume);
        CHECK(open_meta(path).error().kind == ErrorKind::busy);
    }
    const auto again = create_meta(path, first);
    CHECK(again.error().kind == ErrorKind::refused);
    CHECK(again.error().message == path + ": exists already");
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK(static_cast<std::uint64_t>(status.st_size) == meta_file_size(1 * TiB));
    // The maps have their blocks, so that a full filesystem can't keep a bit from being written.
    CHECK(static_cast<std::uint64_t>(status.st_blocks) * 512 + 64 * KiB >= meta_file_size(1 * TiB));
    CHECK(status.st_nlink == 1);
    REQUIRE(::stat(directory.file("state/r0").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0700);

    auto opened = open_meta(path);
    REQUIRE(opened);
    Bitmap bits(map_bits(MapKind::changed, 1 * TiB));
    bits.set({1000000, 1000100});
    REQUIRE((*opened)->write_map(MapKind::changed, bits));
    check_same((*opened)->read_map(MapKind::changed).value(), bits);
    CHECK((*opened)->damage().sectors == 0);
}

TEST_CASE("a file of an older version, all holes, gets its space when it is opened") {
    const test::TempDir directory;
    const std::string path = directory.file("meta");
    const Superblock first = full_superblock(1 * TiB);
    REQUIRE(create_backing_file(path, meta_file_size(first.size)));
    REQUIRE(MetaFile::format(FileStore::open(path, FileStore::Lock::exclusive).value(), first));
    REQUIRE(FileStore::open(path, FileStore::Lock::none).value()->allocated_bytes() < 64 * KiB);

    const auto opened = open_meta(path);
    REQUIRE(opened);
    CHECK_FALSE((*opened)->unreserved());
    auto file = FileStore::open(path, FileStore::Lock::none).value();
    for (const ByteRange& part : essential_parts(first.size)) {
        const auto found = file->extents(part);
        REQUIRE(found);
        for (const Extent& extent : *found) {
            CHECK_FALSE(extent.hole);
        }
    }
    CHECK(file->allocated_bytes() + 64 * KiB >= meta_file_size(first.size));
    CHECK((*opened)->read_map(MapKind::intent).value().empty());
    CHECK((*opened)->damage().sectors == 0);
}
