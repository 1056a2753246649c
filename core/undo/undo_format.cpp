// SPDX-License-Identifier: BSD-3-Clause
#include "core/undo/undo_format.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/base/checksum.hpp"
#include "core/meta/bytes.hpp"

namespace mirror::undo {
namespace {

using detail::get;
using detail::get_id;
using detail::put;
using detail::put_id;

constexpr std::string_view magic = "MIRRUNDO";
constexpr std::uint32_t version = 1;
constexpr std::size_t crc_at = 12;
constexpr std::size_t checked_from = 16;
constexpr std::size_t name_size = 64;
constexpr std::size_t volume_name_at = 144;
constexpr std::size_t node_at = 208;
constexpr std::size_t kept_at = 272;

Result<void> put_name(std::span<std::byte> into, std::size_t at, const std::string& name) {
    if (name.size() >= name_size) {
        return fail(ErrorKind::invalid, "the name '{}' is longer than {} bytes", name,
                    name_size - 1);
    }
    put(into, at, static_cast<std::uint8_t>(name.size()));
    std::memcpy(into.subspan(at + 1, name.size()).data(), name.data(), name.size());
    return {};
}

/// Behind the checksum a length that is too long is a program's mistake, not a disk's.
std::string get_name(std::span<const std::byte> from, std::size_t at) {
    const std::size_t length = std::min<std::size_t>(get<std::uint8_t>(from, at), name_size - 1);
    std::string name(length, '\0');
    std::memcpy(name.data(), from.subspan(at + 1, length).data(), length);
    return name;
}

}  // namespace

Result<void> encode(const Header& header, std::span<std::byte, header_size> into) {
    const UndoInfo& info = header.info;
    std::fill(into.begin(), into.end(), std::byte{0});
    std::memcpy(into.data(), magic.data(), magic.size());
    put(into, 8, version);
    put_id(into, 16, info.volume);
    put(into, 32, info.volume_size);
    put(into, 40, static_cast<std::uint64_t>(info.made_at.time_since_epoch().count()));
    put_id(into, 48, info.generation);
    put_id(into, 64, info.kept_generation);
    put_id(into, 80, info.ancestor);
    put(into, 96, header.map_at);
    put(into, 104, header.pieces);
    put(into, 112, header.saved_bytes);
    put(into, 120, header.map_crc);
    const std::array<std::pair<std::size_t, const std::string*>, 3> names{
        {{volume_name_at, &info.volume_name}, {node_at, &info.node}, {kept_at, &info.kept}}};
    for (const auto& [at, name] : names) {
        if (auto named = put_name(into, at, *name); !named) {
            return named;
        }
    }
    put(into, crc_at, crc32c(into.subspan(checked_from)));
    return {};
}

Result<Header> decode(std::span<const std::byte, header_size> from) {
    if (std::memcmp(from.data(), magic.data(), magic.size()) != 0) {
        return fail(ErrorKind::corrupt, "it is not an undo file of mirrordisk");
    }
    if (const auto found = get<std::uint32_t>(from, 8); found != version) {
        return fail(ErrorKind::corrupt, "version {} is not known to this program ({})", found,
                    version);
    }
    if (get<std::uint32_t>(from, crc_at) != crc32c(from.subspan(checked_from))) {
        return fail(ErrorKind::corrupt, "the checksum of its header does not match");
    }
    Header header;
    header.info.volume = get_id<VolumeId>(from, 16);
    header.info.volume_size = get<std::uint64_t>(from, 32);
    header.info.made_at = detail::get_time(from, 40);
    header.info.generation = get_id<GenerationId>(from, 48);
    header.info.kept_generation = get_id<GenerationId>(from, 64);
    header.info.ancestor = get_id<GenerationId>(from, 80);
    header.map_at = get<std::uint64_t>(from, 96);
    header.pieces = get<std::uint64_t>(from, 104);
    header.saved_bytes = get<std::uint64_t>(from, 112);
    header.map_crc = get<std::uint32_t>(from, 120);
    header.info.volume_name = get_name(from, volume_name_at);
    header.info.node = get_name(from, node_at);
    header.info.kept = get_name(from, kept_at);
    return header;
}

std::vector<std::byte> encode_map(const std::vector<UndoPiece>& pieces) {
    std::vector<std::byte> bytes(pieces.size() * entry_size);
    std::size_t at = 0;
    for (const UndoPiece& piece : pieces) {
        put(bytes, at, piece.range.offset);
        put(bytes, at + 8, static_cast<std::uint32_t>(piece.range.length));
        put(bytes, at + 12, piece.crc);
        put(bytes, at + 16, piece.data_at);
        at += entry_size;
    }
    return bytes;
}

Result<std::vector<UndoPiece>> decode_map(std::span<const std::byte> from, const Header& header) {
    if (crc32c(from) != header.map_crc) {
        return fail(ErrorKind::corrupt, "the checksum of its map does not match");
    }
    std::vector<UndoPiece> pieces;
    pieces.reserve(from.size() / entry_size);
    std::uint64_t end = 0;
    for (std::size_t at = 0; at + entry_size <= from.size(); at += entry_size) {
        const UndoPiece piece{{get<std::uint64_t>(from, at), get<std::uint32_t>(from, at + 8)},
                              get<std::uint64_t>(from, at + 16),
                              get<std::uint32_t>(from, at + 12)};
        const bool has_place =
            piece.data_at == 0 ||
            (piece.data_at >= header_size &&
             ByteRange{piece.data_at, piece.range.length}.fits_in(header.map_at));
        if (piece.range.offset < end || piece.range.length > undo_piece_size ||
            !piece.range.fits_in(header.info.volume_size) || !has_place) {
            return fail(ErrorKind::corrupt, "entry {} of its map makes no sense", at / entry_size);
        }
        end = piece.range.end();
        pieces.push_back(piece);
    }
    return pieces;
}

}  // namespace mirror::undo
