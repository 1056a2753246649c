// SPDX-License-Identifier: BSD-3-Clause
// Byte ranges, and sizes and durations as people write them. Values; any thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/error.hpp"

namespace mirror {

inline constexpr std::uint64_t KiB = 1024;
inline constexpr std::uint64_t MiB = 1024 * KiB;
inline constexpr std::uint64_t GiB = 1024 * MiB;
inline constexpr std::uint64_t TiB = 1024 * GiB;

/// Bytes [offset, offset + length) of a volume. Offset and length travel together so that they
/// cannot be swapped. Whoever makes one from foreign numbers checks first with fits_in().
struct ByteRange {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;

    [[nodiscard]] constexpr std::uint64_t end() const noexcept { return offset + length; }
    [[nodiscard]] constexpr bool empty() const noexcept { return length == 0; }
    [[nodiscard]] constexpr bool overlaps(const ByteRange& other) const noexcept {
        return offset < other.end() && other.offset < end();
    }
    /// Whether the range lies within `size` bytes; safe for any numbers (no overflow).
    [[nodiscard]] constexpr bool fits_in(std::uint64_t size) const noexcept {
        return offset <= size && length <= size - offset;
    }
    friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

[[nodiscard]] constexpr std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) noexcept {
    return value / by + (value % by != 0 ? 1 : 0);
}

/// "10GiB", "512 MiB", "4096": a whole number of B, KiB, MiB, GiB, TiB (also K, M, G, T, same
/// meaning). Decimal units (GB) are refused, since a disk must not be smaller than it seems.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);
/// The shortest exact or three-digit form: "10 GiB", "1.42 GiB", "512 B".
[[nodiscard]] std::string format_size(std::uint64_t bytes);

/// "5s", "250ms", "2min", "1h"; a unit is required.
[[nodiscard]] Result<std::chrono::milliseconds> parse_duration(std::string_view text);
/// "250 ms", "5.0 s", "2 min 5 s", "1 h 3 min".
[[nodiscard]] std::string format_duration(std::chrono::milliseconds duration);

}  // namespace mirror
