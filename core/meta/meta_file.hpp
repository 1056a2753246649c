// SPDX-License-Identifier: BSD-3-Clause
// The metadata file STATE_DIR/VOLUME/meta: two superblock slots and three maps. Torn writes at any
// sector lose nothing: a superblock goes to the older slot, and map bits are written in 512-byte
// sectors with a checksum each, so that a sector is the old one or the new one. A map sector that
// fails its check counts as all ones; one that was never written as all zeroes. A filesystem gives
// space in blocks of several sectors, so never written is a whole page of zeroes (4 KiB, in a hole
// or not): the first write to a page writes all its sectors, and a zeroed one among them is bad.
//
// STATE_DIR may be full while the backing is not, and that must cost no replica. So what a change
// of state can't do without (essential_parts()) has real blocks from the start, written as zeroes.
// The changed map, 33 MiB for each TiB, has them where there is room; where its sectors can't be
// written the suspect map stands in (Differences). Whoever adds to this file what must be written
// to go on adds it to essential_parts(), too.
//
// The owner of a replica (mirrord for a standby, the engine for an active) has it open, locked by
// flock on the file. Thread-safe: a superblock can be looked at while the disk takes its time
// with the next one; map writes are the caller's to serialise per map.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/sync.hpp"
#include "core/maps/bitmap.hpp"
#include "core/meta/superblock.hpp"
#include "core/store/file_store.hpp"

namespace mirror {

enum class MapKind : std::uint16_t {
    intent = 1,   ///< regions, this replica's own
    suspect = 2,  ///< regions in which the peer may differ: compared by digest
    changed = 3,  ///< blocks that the peer lacks: sent
};

/// The byte size of the metadata file for a volume.
[[nodiscard]] std::uint64_t meta_file_size(std::uint64_t volume_size);
/// What must be writable however full STATE_DIR is: superblock slots, intent and suspect map.
[[nodiscard]] std::vector<ByteRange> essential_parts(std::uint64_t volume_size);

class MetaFile {
  public:
    /// Formats `store` (all of it a hole so far) and makes the first superblock durable.
    [[nodiscard]] static Result<std::unique_ptr<MetaFile>> format(std::unique_ptr<Store> store,
                                                                  const Superblock& first);
    /// The newest valid slot, which is durable then; nothing is written, so it may be another
    /// process's. `corrupt` when there is none, or the file is too short.
    [[nodiscard]] static Result<Superblock> look(Store& store, const std::string& name);
    /// For the owner: what look() finds, and whatever a write that was cut off has left in the
    /// other slot never comes to life again.
    [[nodiscard]] static Result<std::unique_ptr<MetaFile>> load(std::unique_ptr<Store> store,
                                                                const std::string& name);

    [[nodiscard]] Superblock superblock() const;
    /// Applies `change` to a copy, makes it durable, then it is the superblock. On failure the
    /// superblock stays as it was, and a later load may find either. The sequence and the size are
    /// not `change`'s to set.
    [[nodiscard]] Result<void> update(const std::function<void(Superblock&)>& change);

    [[nodiscard]] Result<Bitmap> read_map(MapKind kind);
    /// Writes the named chunks; durable only after sync().
    [[nodiscard]] Result<void> write_chunks(MapKind kind, const Bitmap& bits,
                                            const std::vector<std::uint64_t>& chunks);
    /// Replaces a whole map (only chunks that are set, or were); durable only after sync().
    [[nodiscard]] Result<void> write_map(MapKind kind, const Bitmap& bits);
    [[nodiscard]] Result<void> sync();

    /// Map sectors that failed their check when their map was read last, each of which counts as
    /// all ones: so much may be different for no other reason.
    struct Damage {
        std::uint64_t sectors = 0;
        std::uint64_t bytes = 0;  ///< of the volume
    };
    [[nodiscard]] Damage damage() const;

    /// Gives essential_parts() space of their own, while others write to them.
    using Reserve = std::function<Result<void>()>;
    /// They have none. reserve() tries again.
    void note_unreserved(Error why, Reserve again) EXCLUDES(updating_);
    /// Nothing is done where they have it. From the owner's housekeeping.
    void reserve() EXCLUDES(updating_);
    /// Why they have none; nothing: they have.
    [[nodiscard]] std::optional<Error> unreserved() const;

  private:
    /// Gets a chunk's index and its sector; an empty span where it can't be read.
    using SectorVisitor = std::function<void(std::uint64_t, std::span<const std::byte>)>;

    MetaFile(std::unique_ptr<Store> store, Superblock block);
    [[nodiscard]] Result<void> write_slot(const Superblock& block) REQUIRES(updating_);
    /// Visits every sector of the pages in which something was ever written.
    [[nodiscard]] Result<void> for_each_written(MapKind kind, const SectorVisitor& visit);
    void visit_page(std::span<std::byte> page, std::uint64_t offset, ByteRange area,
                    bool read_already, const SectorVisitor& visit);
    /// The sectors to write for `chunks` (sorted): the whole page where it is the first write to
    /// it, none where that would write zeroes alone. `newly_begun` gets the pages that have begun
    /// once that is written.
    [[nodiscard]] std::vector<std::uint64_t> with_new_pages(
        MapKind kind, const Bitmap& bits, std::span<const std::uint64_t> chunks,
        std::vector<std::uint64_t>& newly_begun);
    [[nodiscard]] bool is_untouched(MapKind kind, std::uint64_t page);
    [[nodiscard]] Bitmap& begun_pages(MapKind kind) noexcept;

    const std::unique_ptr<Store> store_;
    const std::uint64_t volume_size_;
    /// A map's pages that are known to hold written sectors; one a map, for its only writer.
    std::array<Bitmap, 3> begun_pages_;
    Mutex updating_;  ///< one update at a time; never held by who only looks
    mutable Mutex mutex_;
    Superblock block_ GUARDED_BY(mutex_);
    std::array<Damage, 3> damage_ GUARDED_BY(mutex_);
    std::optional<Error> unreserved_ GUARDED_BY(mutex_);
    Reserve reserve_ GUARDED_BY(updating_);  ///< null: nothing to be done
};

/// Bits of a map of this kind for a volume of `volume_size` bytes.
[[nodiscard]] std::uint64_t map_bits(MapKind kind, std::uint64_t volume_size) noexcept;

/// STATE_DIR/VOLUME/meta on a FileStore with an exclusive lock. What makes or grows a file gives it
/// its space, or fails with `no_space` and leaves nothing behind; what opens an older one that has
/// none tries to, and goes on without (MetaFile::unreserved()).
[[nodiscard]] std::string meta_path(const std::string& state_dir, const std::string& volume);
/// What is in it now, also while another process has it.
[[nodiscard]] Result<Superblock> read_superblock(const std::string& path);
[[nodiscard]] Result<std::unique_ptr<MetaFile>> create_meta(const std::string& path,
                                                            const Superblock& first);
/// Lays a file that nobody has open out anew for a larger volume: all that it knew stays, and the
/// new part has no bit set. At once or not at all, whenever it is cut short. Fine when the volume
/// has that size already; `refused` when it is larger.
[[nodiscard]] Result<void> grow_meta(const std::string& path, std::uint64_t volume_size);
/// `not_found` with the remedy `mirrorctl create` when there is none; `busy` when another process
/// has it.
/// `wrap`: what stands between the file and its users; nothing by default.
using WrapFile = std::function<std::unique_ptr<Store>(std::unique_ptr<FileStore>)>;
[[nodiscard]] Result<std::unique_ptr<MetaFile>> open_meta(const std::string& path,
                                                          const WrapFile& wrap = {});

}  // namespace mirror
