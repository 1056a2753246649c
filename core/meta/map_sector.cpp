// SPDX-License-Identifier: BSD-3-Clause
#include "core/meta/map_sector.hpp"

#include "core/base/checksum.hpp"
#include "core/meta/bytes.hpp"

namespace mirror::detail {
namespace {

constexpr std::size_t bits_at = 16;
static_assert(bits_at + Bitmap::chunk_bits / 8 == map_sector_size);

}  // namespace

void encode_map_sector(MapSector sector, MapKind kind, std::uint64_t index,
                       const Bitmap::Chunk* bits) {
    put(sector, 4, static_cast<std::uint16_t>(kind));
    put(sector, 6, std::uint16_t{0});
    put(sector, 8, index);
    const Bitmap::Chunk clear{};
    const Bitmap::Chunk& words = bits != nullptr ? *bits : clear;
    for (std::size_t i = 0; i < words.size(); ++i) {
        put(sector, bits_at + 8 * i, words[i]);
    }
    put(sector, 0, crc32c(sector.subspan(4)));
}

std::optional<Bitmap::Chunk> decode_map_sector(ConstMapSector sector, MapKind kind,
                                               std::uint64_t index) {
    if (get<std::uint32_t>(sector, 0) != crc32c(sector.subspan(4)) ||
        get<std::uint16_t>(sector, 4) != static_cast<std::uint16_t>(kind) ||
        get<std::uint64_t>(sector, 8) != index) {
        return std::nullopt;
    }
    Bitmap::Chunk words;
    for (std::size_t i = 0; i < words.size(); ++i) {
        words[i] = get<std::uint64_t>(sector, bits_at + 8 * i);
    }
    return words;
}

}  // namespace mirror::detail
