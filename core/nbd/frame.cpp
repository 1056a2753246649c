// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/frame.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/checksum.hpp"

namespace mirror::nbd {
namespace {

constexpr std::uint32_t frame_magic = 0x4D44'46B1;    // "MDF", version 1
constexpr std::uint32_t trailer_magic = 0x4D44'54B1;  // "MDT", version 1
constexpr std::size_t covered_from = 8;               // behind magic and checksum
/// Copied and summed at once, while it is in the processor's first cache.
constexpr std::size_t copy_step = 12 * KiB;

using Header = std::span<std::byte, FrameHeader::wire_size>;
using ConstHeader = std::span<const std::byte, FrameHeader::wire_size>;

/// All but the checksum.
void store_fields(Header to, const FrameHeader& header) noexcept {
    std::memset(to.data(), 0, to.size());
    store_be(to.data(), frame_magic);
    to[8] = static_cast<std::byte>(header.op);
    to[9] = static_cast<std::byte>(header.flags);
    std::byte* place = store_be(to.data() + 16, header.sequence);
    place = store_be(place, header.range.offset);
    store_be(place, header.range.length);
}

std::uint32_t sum_with_fields(ConstHeader header, std::uint32_t data_sum) noexcept {
    return crc32c(header.subspan<covered_from>(), data_sum);
}

bool is_sensible(const FrameHeader& header, ConstHeader raw, std::size_t data) noexcept {
    constexpr std::uint8_t known =
        frame_flag::fua | frame_flag::keep_allocated | frame_flag::data_apart;
    const bool reserved = std::any_of(raw.begin() + 10, raw.begin() + 16,
                                      [](std::byte b) { return b != std::byte{}; });
    if (reserved || (header.flags & ~known) != 0) {
        return false;
    }
    switch (header.op) {
        case FrameOp::write:
            return header.range.length != 0 && header.range.length == data;
        case FrameOp::zero:
            return header.range.length != 0 && data == 0;
        case FrameOp::flush:
            return header.range == ByteRange{} && data == 0;
    }
    return false;
}

std::uint32_t sum_of_answer(std::span<const std::byte> data, std::uint64_t offset) noexcept {
    std::array<std::byte, 16> question;
    store_be(store_be(question.data(), offset), static_cast<std::uint64_t>(data.size()));
    return crc32c(data, crc32c(question));
}

}  // namespace

void store_frame(Header to, const FrameHeader& header, std::uint32_t data_sum) noexcept {
    store_fields(to, header);
    store_be(to.data() + 4, sum_with_fields(to, data_sum));
}

std::uint32_t copy_summed(std::span<std::byte> to, std::span<const std::byte> from) noexcept {
    std::uint32_t sum = 0;
    std::byte* place = to.data();
    while (!from.empty()) {
        const std::size_t length = std::min(copy_step, from.size());
        std::memcpy(place, from.data(), length);
        // Of the copy: what is summed is what is sent, whatever happens to the original.
        sum = crc32c({place, length}, sum);
        place += length;
        from = from.subspan(length);
    }
    return sum;
}

Result<FrameHeader> load_frame(ConstHeader header, std::span<const std::byte> data) {
    if (load_be<std::uint32_t>(header.data()) != frame_magic ||
        load_be<std::uint32_t>(header.data() + 4) != sum_with_fields(header, crc32c(data))) {
        return fail(ErrorKind::corrupt, "its checksum does not match");
    }
    const FrameHeader loaded{
        .op = static_cast<FrameOp>(header[8]),
        .flags = std::to_integer<std::uint8_t>(header[9]),
        .sequence = load_be<std::uint64_t>(header.data() + 16),
        .range = {load_be<std::uint64_t>(header.data() + 24),
                  load_be<std::uint64_t>(header.data() + 32)},
    };
    if (!is_sensible(loaded, header, data.size())) {
        return fail(ErrorKind::protocol, "it makes no sense, although its checksum matches");
    }
    return loaded;
}

bool seems_apart(ConstHeader header) noexcept {
    return static_cast<FrameOp>(header[8]) == FrameOp::write &&
           (std::to_integer<std::uint8_t>(header[9]) & frame_flag::data_apart) != 0;
}

void store_trailer(std::span<std::byte> answer, std::uint64_t offset) noexcept {
    const std::size_t length = answer.size() - trailer_size;
    const std::uint32_t sum = sum_of_answer(answer.first(length), offset);
    store_be(store_be(answer.data() + length, trailer_magic), sum);
}

bool trailer_fits(std::span<const std::byte> answer, std::uint64_t offset) noexcept {
    if (answer.size() < trailer_size) {
        return false;
    }
    const std::span<const std::byte> data = answer.first(answer.size() - trailer_size);
    const std::byte* const trailer = data.data() + data.size();
    return load_be<std::uint32_t>(trailer) == trailer_magic &&
           load_be<std::uint32_t>(trailer + 4) == sum_of_answer(data, offset);
}

}  // namespace mirror::nbd
