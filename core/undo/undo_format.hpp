// SPDX-License-Identifier: BSD-3-Clause
// What an undo file is made of (docs/design.md, section 3.2): a header of 4 KiB, the pieces' data,
// the map of pieces. Every byte of the file is under a CRC32C, so that damage anywhere is found
// before anything is believed. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/id.hpp"
#include "core/base/units.hpp"

namespace mirror {

/// Whose blocks these are, and why they were saved.
struct UndoInfo {
    VolumeId volume;
    std::string volume_name;        ///< at most 63 bytes, as all names
    std::uint64_t volume_size = 0;  ///< bytes
    std::string node;               ///< the node whose blocks these are
    std::string kept;               ///< the node whose data was kept
    WallTime made_at{};
    GenerationId generation;       ///< of the saved blocks
    GenerationId kept_generation;  ///< of the data that was kept
    GenerationId ancestor;         ///< the newest that both had; none when there was none

    friend bool operator==(const UndoInfo&, const UndoInfo&) = default;
};

/// A run of saved bytes, at most `undo_piece_size` long.
struct UndoPiece {
    ByteRange range;            ///< of the volume
    std::uint64_t data_at = 0;  ///< in the file; 0: all zeroes, and nothing is stored
    std::uint32_t crc = 0;      ///< CRC32C of the data; 0 for zeroes

    friend bool operator==(const UndoPiece&, const UndoPiece&) = default;
};

inline constexpr std::uint64_t undo_piece_size = 64 * KiB;

namespace undo {

inline constexpr std::size_t header_size = 4096;
inline constexpr std::size_t entry_size = 24;

struct Header {
    UndoInfo info;
    std::uint64_t map_at = 0;
    std::uint64_t pieces = 0;
    std::uint64_t saved_bytes = 0;  ///< of all pieces, zeroes included
    std::uint32_t map_crc = 0;
};

/// Fails only when a name does not fit.
[[nodiscard]] Result<void> encode(const Header& header, std::span<std::byte, header_size> into);
[[nodiscard]] Result<Header> decode(std::span<const std::byte, header_size> from);

[[nodiscard]] std::vector<std::byte> encode_map(const std::vector<UndoPiece>& pieces);
/// Pieces in ascending order that lie within the volume, their data within the file.
[[nodiscard]] Result<std::vector<UndoPiece>> decode_map(std::span<const std::byte> from,
                                                        const Header& header);

}  // namespace undo
}  // namespace mirror
