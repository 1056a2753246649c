// SPDX-License-Identifier: BSD-3-Clause
// The two grains at which the mirror remembers differences: 4 KiB blocks (change map) and 1 MiB
// regions (intent and suspect maps). Pure; any thread.
#pragma once

#include <compare>
#include <cstdint>

#include "core/base/units.hpp"

namespace mirror {

inline constexpr std::uint64_t block_size = 4 * KiB;
inline constexpr std::uint64_t region_size = 1 * MiB;
/// The unit of a digest.
inline constexpr std::uint64_t digest_block_size = 64 * KiB;

/// A half-open run of bit numbers in one map.
struct BitRange {
    std::uint64_t first = 0;
    std::uint64_t last = 0;  ///< one past the end

    [[nodiscard]] bool empty() const noexcept { return first >= last; }
    friend bool operator==(const BitRange&, const BitRange&) = default;
};

/// The bits whose grain the range touches, even in part.
[[nodiscard]] constexpr BitRange bits_touched(ByteRange range, std::uint64_t grain) noexcept {
    return {range.offset / grain, divide_up(range.end(), grain)};
}

/// The bits whose whole grain the range covers; the volume's last, shorter grain counts as whole
/// when the range reaches the volume's end.
[[nodiscard]] constexpr BitRange bits_covered(ByteRange range, std::uint64_t grain,
                                              std::uint64_t volume_size) noexcept {
    const std::uint64_t last =
        range.end() >= volume_size ? divide_up(volume_size, grain) : range.end() / grain;
    return {divide_up(range.offset, grain), last};
}

/// The bytes of a run of bits, cut at the volume's end.
[[nodiscard]] constexpr ByteRange bytes_of(BitRange bits, std::uint64_t grain,
                                           std::uint64_t volume_size) noexcept {
    const std::uint64_t offset = bits.first * grain;
    return {offset, std::min(bits.last * grain, volume_size) - offset};
}

}  // namespace mirror
