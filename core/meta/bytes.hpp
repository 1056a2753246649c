// SPDX-License-Identifier: BSD-3-Clause
// Little-endian numbers and ids in a byte buffer at fixed offsets, whatever the processor. The
// offsets are constants of a layout that fits its buffer, hence no check at run time. Pure; any
// thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "core/base/clock.hpp"
#include "core/base/id.hpp"

namespace mirror::detail {

template <std::unsigned_integral Number>
void put(std::span<std::byte> bytes, std::size_t at, Number value) noexcept {
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
        bytes[at + i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
    }
}

template <std::unsigned_integral Number>
[[nodiscard]] Number get(std::span<const std::byte> bytes, std::size_t at) noexcept {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
        value |= std::to_integer<std::uint64_t>(bytes[at + i]) << (8 * i);
    }
    return static_cast<Number>(value);
}

template <typename Tag>
void put_id(std::span<std::byte> bytes, std::size_t at, const Id<Tag>& id) noexcept {
    std::memcpy(bytes.subspan(at, id.bytes.size()).data(), id.bytes.data(), id.bytes.size());
}

template <typename IdType>
[[nodiscard]] IdType get_id(std::span<const std::byte> bytes, std::size_t at) noexcept {
    IdType id;
    std::memcpy(id.bytes.data(), bytes.subspan(at, id.bytes.size()).data(), id.bytes.size());
    return id;
}

/// Microseconds since 1970, signed. What no calendar of four digits has becomes its nearest end: a
/// time is for people, and must not fail a replica, nor overflow where an age is computed.
[[nodiscard]] inline WallTime get_time(std::span<const std::byte> bytes, std::size_t at) noexcept {
    using namespace std::chrono;
    constexpr WallTime first = sys_days(year(1) / January / 1);
    constexpr WallTime last = sys_days(year(9999) / December / 31);
    const microseconds found(static_cast<std::int64_t>(get<std::uint64_t>(bytes, at)));
    return std::clamp(WallTime(found), first, last);
}

}  // namespace mirror::detail
