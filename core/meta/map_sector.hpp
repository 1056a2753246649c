// SPDX-License-Identifier: BSD-3-Clause
// One 512-byte sector of a map on disk, the unit that a disk writes whole or not at all:
//
//   offset  size  field (little-endian)
//        0     4  CRC32C of bytes 4 to 511
//        4     2  kind of map (MapKind)
//        6     2  zero
//        8     8  index: which chunk of the map
//       16   496  bits: bit b of the chunk is bit b % 8 of byte b / 8
//
// Pure; any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "core/maps/bitmap.hpp"
#include "core/meta/meta_file.hpp"

namespace mirror::detail {

inline constexpr std::size_t map_sector_size = 512;
using MapSector = std::span<std::byte, map_sector_size>;
using ConstMapSector = std::span<const std::byte, map_sector_size>;

/// `bits` may be null: none is set.
void encode_map_sector(MapSector sector, MapKind kind, std::uint64_t index,
                       const Bitmap::Chunk* bits);
/// Nothing when the sector is not what was written there.
[[nodiscard]] std::optional<Bitmap::Chunk> decode_map_sector(ConstMapSector sector, MapKind kind,
                                                             std::uint64_t index);

}  // namespace mirror::detail
