// SPDX-License-Identifier: BSD-3-Clause
// Superblocks and whole metadata files with bytes changed in them. Checksums are made to fit where
// the input says so: a program's mistake, or somebody who can compute one, gets past them too.
#include <array>
#include <memory>
#include <vector>

#include "core/base/checksum.hpp"
#include "core/engine/differences.hpp"
#include "core/lineage/handshake.hpp"
#include "core/meta/bytes.hpp"
#include "core/meta/map_sector.hpp"
#include "core/meta/meta_file.hpp"
#include "flat_store.hpp"
#include "input.hpp"
#include "tests/unit/memory_store.hpp"
#include "tests/unit/superblocks.hpp"

namespace mirror::fuzz {
namespace {

constexpr std::uint64_t volume_size = 40 * MiB + 4096;
using Slot = std::array<std::byte, superblock_slot_size>;

/// The same each time: an input must do again what it did.
Superblock some_superblock() {
    Superblock block = test::full_superblock(volume_size);
    std::uint8_t number = 0;
    block.volume.bytes.fill(++number);
    block.session.bytes.fill(++number);
    block.yields_to.bytes.fill(++number);
    block.lineage = Lineage();
    for (int i = 0; i < 5; ++i) {
        GenerationId id;
        id.bytes.fill(++number);
        block.lineage.begin(id, WallTime(std::chrono::seconds(i)), "alpha",
                            static_cast<GenerationReason>(i));
    }
    return block;
}

Slot good_slot() {
    Slot slot{};
    require(encode(some_superblock(), slot).has_value(), "a good superblock can be written");
    return slot;
}

void mend_superblock(std::span<std::byte> slot) {
    detail::put(slot, 12, crc32c(slot.subspan(16, superblock_slot_size - 16)));
}

void mend_map_sectors(std::span<std::byte> file) {
    constexpr std::size_t maps_at = 64 * KiB;
    for (std::size_t at = maps_at; at + detail::map_sector_size <= file.size();
         at += detail::map_sector_size) {
        const auto sector = file.subspan(at, detail::map_sector_size);
        if (!is_zero(sector)) {
            detail::put(sector, 0, crc32c(sector.subspan(4)));
        }
    }
}

/// A file as it is after some use, sparse as it would be.
std::vector<std::byte> good_file() {
    const std::uint64_t size = meta_file_size(volume_size);
    test::MemoryDisk disk(size);
    auto meta = MetaFile::format(disk.open(), some_superblock());
    require(meta.has_value(), "a metadata file can be formatted");
    Bitmap changed(map_bits(MapKind::changed, volume_size));
    changed.set({3, 9});
    Bitmap regions(map_bits(MapKind::intent, volume_size));
    regions.set({1, 2});
    require((*meta)->write_map(MapKind::changed, changed) &&
                (*meta)->write_map(MapKind::suspect, regions) &&
                (*meta)->write_map(MapKind::intent, regions) &&
                (*meta)->update([](Superblock& block) { block.unclean = false; }),
            "a metadata file can be written");
    std::vector<std::byte> file(size);
    require(disk.open()->read(file, 0).has_value(), "what was written can be read");
    return file;
}

void read_all(MetaFile& meta) {
    const std::uint64_t size = meta.superblock().size;
    for (const MapKind kind : {MapKind::intent, MapKind::suspect, MapKind::changed}) {
        const auto bits = meta.read_map(kind);
        require(bits && bits->count() <= map_bits(kind, size), "a map has no bits of its own");
    }
    const auto differences = Differences::load(meta);
    require(differences.has_value(), "readable maps can be loaded");
    for (auto region = (*differences)->next_region(0); region;
         region = (*differences)->next_region(*region + 1)) {
        const auto work = (*differences)->work_in(*region);
        require(work.range.fits_in(size), "work is within the volume");
        (*differences)->clear_covered(work.range, [] { return false; });
    }
    (void)(*differences)->changed_ranges(10);
    require((*differences)->behind_bytes() <= size, "no more is behind than there is");
    require((*differences)
                ->checkpoint(IntentMap::Clear::all, []() -> Result<void> { return {}; })
                .has_value(),
            "a checkpoint can be made");
    (void)meta.update([](Superblock& block) { block.unclean = true; });
}

}  // namespace

void superblock(Bytes bytes) {
    Input input(bytes);
    const bool mended = input.flag();
    static const Slot good = good_slot();
    Slot slot = good;
    patch(slot, input);
    if (mended) {
        mend_superblock(slot);
    }
    const auto block = decode(slot);
    if (!block) {
        require(!block.error().message.empty(), "a refusal has a reason");
        return;
    }
    Slot again{};
    require(encode(*block, again).has_value(), "what was read can be written");
    const auto twice = decode(again);
    require(twice && twice->lineage.entries().size() == block->lineage.entries().size() &&
                twice->sequence == block->sequence && twice->node == block->node,
            "what was written is what was read");
    for (const WallTime time : {block->created, block->last_update, block->break_at}) {
        (void)(system_clock().wall_now() - time);
        require(parse_rfc3339(format_rfc3339(time)).has_value(), "a time can be sent");
    }
    ReplicaSummary ours = summarize(*block, 1, 2);
    ReplicaSummary theirs = ours;
    theirs.role = Role::standby;
    (void)decide(ours, theirs);
}

void metadata(Bytes bytes) {
    Input input(bytes);
    const bool mended = input.flag();
    const std::uint64_t cut = input.number<std::uint8_t>();
    static const std::vector<std::byte> good = good_file();
    std::vector<std::byte> file = good;
    // Patches go to the first slot, the second one, and the maps, which lie in a row.
    while (!input.at_end()) {
        const std::size_t part = input.number<std::uint8_t>() % 3;
        const std::size_t begin = part == 2 ? 64 * KiB : part * superblock_slot_size;
        const std::size_t at = begin + input.number<std::uint16_t>();
        const Bytes with = input.bytes(input.number<std::uint8_t>());
        if (at < file.size()) {
            std::copy_n(with.begin(), std::min(with.size(), file.size() - at),
                        file.begin() + static_cast<std::ptrdiff_t>(at));
        }
    }
    if (mended) {
        mend_superblock(file);
        mend_superblock(std::span(file).subspan(superblock_slot_size));
        mend_map_sectors(file);
    }
    cut_off(file, cut * 512);
    if (const auto meta = MetaFile::load(std::make_unique<FlatStore>(std::move(file)), "meta")) {
        // Larger maps than these cost memory, as they would with a disk of that size.
        if ((*meta)->superblock().size <= 16 * volume_size) {
            read_all(**meta);
        }
    }
}

}  // namespace mirror::fuzz
