// SPDX-License-Identifier: BSD-3-Clause
// A superblock that landed in the other one's place is not believed: it would make the next update
// overwrite the only good one. One that was cut off stays dead, whatever is written over it.
#include <array>

#include <doctest/doctest.h>

#include "core/meta/meta_file.hpp"
#include "memory_store.hpp"
#include "superblocks.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

constexpr std::uint64_t volume_size = 8 * MiB;
using Slot = std::array<std::byte, superblock_slot_size>;

Slot slot_on(MemoryDisk& disk, std::uint64_t place) {
    Slot slot;
    REQUIRE(disk.open()->read(slot, place * superblock_slot_size));
    return slot;
}

std::unique_ptr<MetaFile> load(MemoryDisk& disk) {
    auto file = MetaFile::load(disk.open(), "meta");
    REQUIRE_MESSAGE(file, (file ? "" : file.error().message));
    return std::move(*file);
}

void set_errors(MetaFile& file, std::uint64_t errors) {
    REQUIRE(file.update([errors](Superblock& block) { block.media_errors = errors; }));
}

}  // namespace

TEST_CASE("a newer superblock in the wrong place is not loaded, whichever place that is") {
    for (const unsigned updates : {1U, 2U}) {
        CAPTURE(updates);
        MemoryDisk disk(meta_file_size(volume_size));
        REQUIRE(MetaFile::format(disk.open(), full_superblock(volume_size)));
        for (unsigned i = 1; i <= updates; ++i) {
            set_errors(*load(disk), i);
        }
        const std::uint64_t good_place = load(disk)->superblock().sequence % 2;
        // The update after the next one belongs where the good one is, and goes astray.
        MemoryDisk ahead(disk);
        set_errors(*load(ahead), 100);
        set_errors(*load(ahead), 101);
        const Slot astray = slot_on(ahead, good_place);
        REQUIRE(disk.open()->write(astray, (1 - good_place) * superblock_slot_size));
        REQUIRE(disk.open()->flush());
        const auto found = load(disk);
        CHECK(found->superblock().media_errors == updates);
        // Torn, the next update leaves the good one.
        disk.fail_flushes(true);
        CHECK_FALSE(found->update([](Superblock& block) { block.media_errors = 7; }));
        disk.fail_flushes(false);
        disk.damage((1 - good_place) * superblock_slot_size + 100, std::byte{1});
        CHECK(load(disk)->superblock().media_errors == updates);
    }
}

TEST_CASE("superblocks that are both in the wrong place are no metadata") {
    MemoryDisk disk(meta_file_size(volume_size));
    {
        REQUIRE(MetaFile::format(disk.open(), full_superblock(volume_size)));
        set_errors(*load(disk), 1);
    }
    const Slot even = slot_on(disk, 0);
    const Slot odd = slot_on(disk, 1);
    REQUIRE(disk.open()->write(odd, 0));
    REQUIRE(disk.open()->write(even, superblock_slot_size));
    const auto loaded = MetaFile::load(disk.open(), "meta");
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().kind == ErrorKind::corrupt);
}

TEST_CASE("an update that was cut off does not come to life by the next one that is cut off") {
    constexpr std::size_t sectors = superblock_slot_size / MemoryDisk::sector_bytes;
    const auto cut_off = [&](MemoryDisk& disk, std::uint64_t errors, const auto& keep) {
        const auto file = load(disk);
        REQUIRE(disk.unflushed() == 0);
        disk.fail_flushes(true);
        CHECK_FALSE(file->update([&](Superblock& block) {
            block.media_errors = errors;
            // The sectors behind the first are the same in both attempts, and were others before.
            block.lineage = {};
        }));
        disk.fail_flushes(false);
        REQUIRE(disk.unflushed() == sectors);
        disk.cut_power(keep);
    };
    for (std::size_t first = 0; first < sectors; ++first) {
        CAPTURE(first);
        MemoryDisk disk(meta_file_size(volume_size));
        REQUIRE(MetaFile::format(disk.open(), full_superblock(volume_size)));
        set_errors(*load(disk), 1);
        set_errors(*load(disk), 2);
        cut_off(disk, 7, [&](std::size_t i) { return i <= first; });
        const bool is_whole = load(disk)->superblock().media_errors == 7;
        if (is_whole) {
            continue;  // the sectors that were lost were as they are now
        }
        CHECK(load(disk)->superblock().media_errors == 2);
        cut_off(disk, 8, [&](std::size_t i) { return i > first; });
        CHECK(load(disk)->superblock().media_errors != 7);
    }
}

TEST_CASE("who only looks at a superblock writes nothing, since its owner may be writing") {
    MemoryDisk disk(meta_file_size(volume_size));
    REQUIRE(MetaFile::format(disk.open(), full_superblock(volume_size)));
    set_errors(*load(disk), 1);
    const std::uint64_t other = 1 - load(disk)->superblock().sequence % 2;
    disk.damage(other * superblock_slot_size + 100, std::byte{1});
    const Slot torn = slot_on(disk, other);
    const auto store = disk.open();
    const auto seen = MetaFile::look(*store, "meta");
    REQUIRE(seen);
    CHECK(seen->media_errors == 1);
    CHECK(slot_on(disk, other) == torn);
    CHECK(load(disk)->superblock().media_errors == 1);
    CHECK(slot_on(disk, other) != torn);
}
