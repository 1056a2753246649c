// SPDX-License-Identifier: BSD-3-Clause
// Frames: what replication puts around its commands, so that a bit that was flipped on the way is
// noticed (docs/design.md, section 10). NBD has no room for a checksum, so a change travels as the
// payload of an NBD write, and what is read has a trailer. Pure; any thread.
//
// A frame is a header of 40 bytes, big-endian, and for a write its data:
//   0 magic  4 CRC32C of the data, then of the rest of the header  8 op  9 flags
//   10 zero (6 bytes)  16 sequence  24 offset  32 length
// Frames of a connection are numbered from 1. A write's data follow in the same payload, or, with
// the flag `data_apart`, are the payload of the next NBD write, so that large ones need no copy.
//
// A read of n + 8 bytes at an offset returns n bytes of the volume and a trailer: a magic, and the
// CRC32C of offset, length and data, so that an answer to another question is noticed too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/error.hpp"
#include "core/base/units.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::nbd {

/// The other form of an export: VOLUME@SESSION is written with frames as VOLUME/frames@SESSION.
inline constexpr const char* frames_prefix = "/frames";

/// Where frames are written in a framed export, and where data go that come apart from theirs. Far
/// from every address that is read, by several bits: a write that has become a read on its way must
/// not succeed.
inline constexpr std::uint64_t frame_offset = 0x3A5C'0000'0000'0000;
inline constexpr std::uint64_t apart_offset = frame_offset + 64 * MiB;
/// The size of a framed export is this and the size of what it frames.
inline constexpr std::uint64_t framed_base = apart_offset + 64 * MiB;

enum class FrameOp : std::uint8_t { write = 1, zero = 2, flush = 3 };

namespace frame_flag {
inline constexpr std::uint8_t fua = 1 << 0;
inline constexpr std::uint8_t keep_allocated = 1 << 1;
inline constexpr std::uint8_t data_apart = 1 << 2;
}  // namespace frame_flag

struct FrameHeader {
    static constexpr std::size_t wire_size = 40;

    FrameOp op = FrameOp::flush;
    std::uint8_t flags = 0;
    std::uint64_t sequence = 0;
    ByteRange range;

    [[nodiscard]] bool has(std::uint8_t flag) const noexcept { return (flags & flag) != 0; }
};

/// `data_sum` is the CRC32C of a write's data, so that it can be made before the number is known.
void store_frame(std::span<std::byte, FrameHeader::wire_size> to, const FrameHeader& header,
                 std::uint32_t data_sum) noexcept;
/// Copies and returns the CRC32C of the copy, in one pass over the memory.
[[nodiscard]] std::uint32_t copy_summed(std::span<std::byte> to,
                                        std::span<const std::byte> from) noexcept;
/// What a frame with these data says. Kind corrupt when the checksum does not fit; kind protocol
/// for a frame that arrived as it was sent and makes no sense.
[[nodiscard]] Result<FrameHeader> load_frame(
    std::span<const std::byte, FrameHeader::wire_size> header, std::span<const std::byte> data);
/// Unchecked: whether the header claims that its data come apart, so that they must be waited for.
[[nodiscard]] bool seems_apart(std::span<const std::byte, FrameHeader::wire_size> header) noexcept;

inline constexpr std::size_t trailer_size = 8;
/// The most data of one read that has a trailer.
inline constexpr std::uint64_t max_framed_read = max_payload - trailer_size;

/// Puts the trailer for the data before it into the last bytes of `answer`.
void store_trailer(std::span<std::byte> answer, std::uint64_t offset) noexcept;
/// Whether `answer`, data and trailer, is the answer to a read at `offset`.
[[nodiscard]] bool trailer_fits(std::span<const std::byte> answer, std::uint64_t offset) noexcept;

}  // namespace mirror::nbd
