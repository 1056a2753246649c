// SPDX-License-Identifier: BSD-3-Clause
// The file: superblock slots at 0 and 8192, an even sequence in the first and an odd one in the
// second; the maps from 64 KiB on in the order of MapKind, each from a 4 KiB page of its own.
#include "core/meta/meta_file.hpp"

#include <algorithm>
#include <utility>

#include "core/base/checksum.hpp"
#include "core/meta/map_sector.hpp"

namespace mirror {
namespace {

using detail::map_sector_size;

constexpr std::uint64_t maps_at = 64 * KiB;
constexpr std::uint64_t page_size = 4 * KiB;
constexpr std::uint64_t page_chunks = page_size / map_sector_size;
/// The longest single read or write of map sectors.
constexpr std::uint64_t longest_io = 256 * KiB;

std::uint64_t pages_of(MapKind kind, std::uint64_t volume_size) {
    return divide_up(divide_up(map_bits(kind, volume_size), Bitmap::chunk_bits), page_chunks);
}

ByteRange area_of(MapKind kind, std::uint64_t volume_size) {
    std::uint64_t offset = maps_at;
    for (MapKind earlier : {MapKind::intent, MapKind::suspect}) {
        if (earlier < kind) {
            offset += pages_of(earlier, volume_size) * page_size;
        }
    }
    return {offset, pages_of(kind, volume_size) * page_size};
}

std::size_t index_of(MapKind kind) noexcept {
    return static_cast<std::size_t>(kind) - 1;
}

/// The bytes of the volume that a map sector stands for.
std::uint64_t bytes_of_chunk(std::uint64_t index, std::uint64_t grain, std::uint64_t volume_size) {
    const std::uint64_t last = divide_up(volume_size, grain);
    return bytes_of({index * Bitmap::chunk_bits, std::min((index + 1) * Bitmap::chunk_bits, last)},
                    grain, volume_size)
        .length;
}

bool is_set(const Bitmap& bits, std::uint64_t chunk) {
    return chunk < bits.chunk_count() && bits.chunk(chunk) != nullptr;
}

std::uint64_t grain_of(MapKind kind) noexcept {
    return kind == MapKind::changed ? block_size : region_size;
}

Result<Superblock> read_slot(Store& store, std::uint64_t number) {
    std::array<std::byte, superblock_slot_size> slot;
    if (auto read = store.read(slot, number * superblock_slot_size); !read) {
        return Failure(read.error());
    }
    auto block = decode(slot);
    // A write that went astray must not make the next one overwrite the only good slot.
    if (block && block->sequence % 2 != number) {
        return fail(ErrorKind::corrupt, "it belongs in the other slot");
    }
    return block;
}

/// A write of the slot `number` that was cut off. The next one goes to the same place with the same
/// sequence; cut off too, it could put in place just what the first one lacks, and an update that
/// nobody has acted upon would be the newest. So none of its sectors stays: no superblock has one
/// of ones alone, as it may well have one of zeroes.
Result<void> spoil_torn_slot(Store& store, std::uint64_t number) {
    const std::uint64_t at = number * superblock_slot_size;
    std::array<std::byte, superblock_slot_size> slot;
    const bool readable = store.read(slot, at).has_value();
    if (readable && (is_zero(slot) || decode(slot))) {
        return {};  // never written, or whole
    }
    slot.fill(std::byte{0xFF});
    return store.write(slot, at).and_then([&] { return store.flush(); });
}

}  // namespace

std::uint64_t map_bits(MapKind kind, std::uint64_t volume_size) noexcept {
    return divide_up(volume_size, grain_of(kind));
}

std::uint64_t meta_file_size(std::uint64_t volume_size) {
    return area_of(MapKind::changed, volume_size).end();
}

std::vector<ByteRange> essential_parts(std::uint64_t volume_size) {
    return {{0, 2 * superblock_slot_size},
            area_of(MapKind::intent, volume_size),
            area_of(MapKind::suspect, volume_size)};
}

MetaFile::MetaFile(std::unique_ptr<Store> store, Superblock block)
    : store_(std::move(store)),
      volume_size_(block.size),
      begun_pages_{Bitmap(pages_of(MapKind::intent, block.size)),
                   Bitmap(pages_of(MapKind::suspect, block.size)),
                   Bitmap(pages_of(MapKind::changed, block.size))},
      block_(std::move(block)) {}

Result<std::unique_ptr<MetaFile>> MetaFile::format(std::unique_ptr<Store> store,
                                                   const Superblock& first) {
    if (store->size() < meta_file_size(first.size)) {
        return fail(ErrorKind::invalid, "{} bytes are too few for the metadata of a volume of {}",
                    store->size(), format_size(first.size));
    }
    std::unique_ptr<MetaFile> file(new MetaFile(std::move(store), first));
    if (auto written = file->update([](Superblock&) {}); !written) {
        return Failure(written.error());
    }
    return file;
}

Result<std::unique_ptr<MetaFile>> MetaFile::load(std::unique_ptr<Store> store,
                                                 const std::string& name) {
    auto block = look(*store, name);
    if (!block) {
        return Failure(block.error());
    }
    if (auto spoilt = spoil_torn_slot(*store, 1 - block->sequence % 2); !spoilt) {
        return Failure(spoilt.error().within(name));
    }
    return std::unique_ptr<MetaFile>(new MetaFile(std::move(store), std::move(*block)));
}

Result<Superblock> MetaFile::look(Store& store, const std::string& name) {
    const auto corrupt = [&](const std::string& what) {
        return Failure(Error{
            ErrorKind::corrupt, fmt::format("{}: {}", name, what),
            "remove the directory of the volume and recreate the replica with mirrorctl create"});
    };
    if (store.size() < maps_at) {
        return corrupt(fmt::format("{} bytes are too few for a metadata file", store.size()));
    }
    auto even = read_slot(store, 0);
    auto odd = read_slot(store, 1);
    if (!even && !odd) {
        return corrupt(fmt::format("neither superblock is valid (the first: {}; the second: {})",
                                   even.error().message, odd.error().message));
    }
    const bool odd_is_newer = odd && (!even || odd->sequence > even->sequence);
    Superblock block = std::move(odd_is_newer ? *odd : *even);
    // The bound keeps the arithmetic of a foreign number from overflowing.
    if (block.size > 8192 * TiB || store.size() < meta_file_size(block.size)) {
        return corrupt(fmt::format("{} bytes are too few for the maps of a volume of {} bytes",
                                   store.size(), block.size));
    }
    // A process that died between the write of a slot and its flush has left it in the page cache
    // alone: it must not be acted upon, nor the other slot be overwritten, before it is durable.
    if (auto durable = store.flush(); !durable) {
        return Failure(durable.error());
    }
    return block;
}

Superblock MetaFile::superblock() const {
    MutexLock lock(mutex_);
    return block_;
}

Result<void> MetaFile::update(const std::function<void(Superblock&)>& change) {
    MutexLock one(updating_);
    Superblock next = superblock();
    const std::uint64_t before = next.sequence;
    change(next);
    next.sequence = before + 1;
    next.size = volume_size_;
    if (auto written = write_slot(next); !written) {
        return written;
    }
    MutexLock lock(mutex_);
    block_ = std::move(next);
    return {};
}

Result<void> MetaFile::write_slot(const Superblock& block) {
    std::array<std::byte, superblock_slot_size> slot;
    if (auto encoded = encode(block, slot); !encoded) {
        return encoded;
    }
    if (auto written = store_->write(slot, block.sequence % 2 * superblock_slot_size); !written) {
        return written;
    }
    return store_->flush();
}

Result<void> MetaFile::for_each_written(MapKind kind, const SectorVisitor& visit) {
    const ByteRange area = area_of(kind, volume_size_);
    auto extents = store_->extents(area);
    if (!extents) {
        return Failure(extents.error());
    }
    std::vector<std::byte> buffer(std::min(longest_io, area.length));
    std::uint64_t next = area.offset;
    for (const Extent& extent : *extents) {
        if (extent.hole) {
            continue;
        }
        // Whole pages, none twice, however the filesystem cuts its extents.
        std::uint64_t at = std::max(next, extent.range.offset / page_size * page_size);
        const std::uint64_t end =
            std::min(area.end(), divide_up(extent.range.end(), page_size) * page_size);
        for (; at < end; at += std::min(longest_io, end - at)) {
            const auto piece = std::span(buffer).first(std::min(longest_io, end - at));
            const bool readable = store_->read(piece, at).has_value();
            for (std::uint64_t page = 0; page < piece.size(); page += page_size) {
                visit_page(piece.subspan(page, page_size), at + page, area, readable, visit);
            }
        }
        next = std::max(next, end);
    }
    return {};
}

void MetaFile::visit_page(std::span<std::byte> page, std::uint64_t offset, ByteRange area,
                          bool read_already, const SectorVisitor& visit) {
    const bool readable = read_already || store_->read(page, offset).has_value();
    if (readable && is_zero(page)) {
        return;  // begun nowhere in it: the filesystem's block is larger than ours
    }
    const std::uint64_t first = (offset - area.offset) / map_sector_size;
    for (std::uint64_t i = 0; i < page_chunks; ++i) {
        const std::span<const std::byte> sector =
            page.subspan(i * map_sector_size, map_sector_size);
        visit(first + i, readable ? sector : std::span<const std::byte>{});
    }
}

Result<Bitmap> MetaFile::read_map(MapKind kind) {
    Bitmap bits(map_bits(kind, volume_size_));
    Damage damage;
    const auto take = [&](std::uint64_t index, std::span<const std::byte> sector) {
        if (index >= bits.chunk_count()) {
            return;
        }
        std::optional<Bitmap::Chunk> chunk;
        if (!sector.empty()) {
            chunk = detail::decode_map_sector(sector.first<map_sector_size>(), kind, index);
        }
        if (!chunk) {
            ++damage.sectors;
            damage.bytes += bytes_of_chunk(index, grain_of(kind), volume_size_);
            chunk.emplace().fill(~std::uint64_t{0});
        }
        bits.set_chunk(index, *chunk);
    };
    if (auto read = for_each_written(kind, take); !read) {
        return Failure(read.error());
    }
    MutexLock lock(mutex_);
    damage_[index_of(kind)] = damage;
    return bits;
}

Result<void> MetaFile::write_chunks(MapKind kind, const Bitmap& bits,
                                    const std::vector<std::uint64_t>& chunks) {
    if (bits.size() != map_bits(kind, volume_size_)) {
        return fail(ErrorKind::internal, "a map of {} bits for a volume of {} bytes", bits.size(),
                    volume_size_);
    }
    const ByteRange area = area_of(kind, volume_size_);
    std::vector<std::uint64_t> wanted = chunks;
    std::sort(wanted.begin(), wanted.end());
    wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
    std::vector<std::uint64_t> newly_begun;
    const std::vector<std::uint64_t> sectors = with_new_pages(kind, bits, wanted, newly_begun);

    std::vector<std::byte> buffer;
    for (std::size_t i = 0; i < sectors.size(); ++i) {
        const std::uint64_t index = sectors[i];
        std::array<std::byte, map_sector_size> sector;
        const bool named = std::binary_search(wanted.begin(), wanted.end(), index);
        const bool has_bits = named && index < bits.chunk_count();
        detail::encode_map_sector(sector, kind, index, has_bits ? bits.chunk(index) : nullptr);
        buffer.insert(buffer.end(), sector.begin(), sector.end());
        const bool run_goes_on = i + 1 < sectors.size() && sectors[i + 1] == index + 1;
        if (run_goes_on && buffer.size() < longest_io) {
            continue;
        }
        const std::uint64_t end = area.offset + (index + 1) * map_sector_size;
        if (auto written = store_->write(buffer, end - buffer.size()); !written) {
            return written;
        }
        buffer.clear();
    }
    for (std::uint64_t page : newly_begun) {
        begun_pages(kind).set({page, page + 1});
    }
    return {};
}

std::vector<std::uint64_t> MetaFile::with_new_pages(MapKind kind, const Bitmap& bits,
                                                    std::span<const std::uint64_t> chunks,
                                                    std::vector<std::uint64_t>& newly_begun) {
    std::vector<std::uint64_t> sectors;
    while (!chunks.empty()) {
        const std::uint64_t page = chunks.front() / page_chunks;
        const auto end = std::lower_bound(chunks.begin(), chunks.end(), (page + 1) * page_chunks);
        const auto named = chunks.first(static_cast<std::size_t>(end - chunks.begin()));
        chunks = chunks.subspan(named.size());
        if (begun_pages(kind).test(page)) {
            sectors.insert(sectors.end(), named.begin(), named.end());
            continue;
        }
        if (!is_untouched(kind, page)) {
            sectors.insert(sectors.end(), named.begin(), named.end());
        } else if (std::any_of(named.begin(), named.end(),
                               [&](std::uint64_t i) { return is_set(bits, i); })) {
            for (std::uint64_t i = 0; i < page_chunks; ++i) {
                sectors.push_back(page * page_chunks + i);
            }
        } else {
            continue;  // says so as it is, and may be a hole in a full filesystem
        }
        newly_begun.push_back(page);
    }
    return sectors;
}

bool MetaFile::is_untouched(MapKind kind, std::uint64_t page) {
    std::array<std::byte, page_size> bytes;
    const std::uint64_t offset = area_of(kind, volume_size_).offset + page * page_size;
    return store_->read(bytes, offset).has_value() && is_zero(bytes);
}

Bitmap& MetaFile::begun_pages(MapKind kind) noexcept {
    return begun_pages_[index_of(kind)];
}

Result<void> MetaFile::write_map(MapKind kind, const Bitmap& bits) {
    std::vector<std::uint64_t> chunks;
    const auto note = [&](std::uint64_t index, std::span<const std::byte>) {
        chunks.push_back(index);
    };
    if (auto read = for_each_written(kind, note); !read) {
        return read;
    }
    for (std::uint64_t i = 0; i < bits.chunk_count(); ++i) {
        if (bits.chunk(i) != nullptr) {
            chunks.push_back(i);
        }
    }
    return write_chunks(kind, bits, chunks);
}

Result<void> MetaFile::sync() {
    return store_->flush();
}

MetaFile::Damage MetaFile::damage() const {
    MutexLock lock(mutex_);
    Damage all;
    for (const Damage& of_map : damage_) {
        all.sectors += of_map.sectors;
        all.bytes += of_map.bytes;
    }
    all.bytes = std::min(all.bytes, volume_size_);
    return all;
}

void MetaFile::note_unreserved(Error why, Reserve again) {
    MutexLock one(updating_);
    reserve_ = std::move(again);
    MutexLock lock(mutex_);
    unreserved_ = std::move(why);
}

void MetaFile::reserve() {
    MutexLock one(updating_);
    if (!reserve_) {
        return;
    }
    auto reserved = reserve_();
    MutexLock lock(mutex_);
    if (reserved) {
        reserve_ = nullptr;
        unreserved_.reset();
    } else {
        unreserved_ = std::move(reserved.error());
    }
}

std::optional<Error> MetaFile::unreserved() const {
    MutexLock lock(mutex_);
    return unreserved_;
}

}  // namespace mirror
