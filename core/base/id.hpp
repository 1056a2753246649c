// SPDX-License-Identifier: BSD-3-Clause
// Random 128-bit identities. Each sort has a type of its own, so that a session can never be
// mistaken for a generation. Values; any thread.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/base/error.hpp"

namespace mirror {

/// 16 random bytes; all zero means "none".
template <typename Tag>
struct Id {
    std::array<std::uint8_t, 16> bytes{};

    friend auto operator<=>(const Id&, const Id&) = default;
    [[nodiscard]] bool is_none() const noexcept { return *this == Id{}; }
};

using VolumeId = Id<struct VolumeTag>;
using GenerationId = Id<struct GenerationTag>;
using SessionId = Id<struct SessionTag>;

namespace detail {
void fill_random(std::span<std::uint8_t, 16> bytes);
std::string hex(std::span<const std::uint8_t, 16> bytes);
bool from_hex(std::string_view text, std::span<std::uint8_t, 16> bytes) noexcept;
}  // namespace detail

/// A new id from the kernel's random generator; never "none".
template <typename IdType>
[[nodiscard]] IdType random_id() {
    IdType id;
    do {
        detail::fill_random(id.bytes);
    } while (id.is_none());
    return id;
}

/// 32 lower-case hexadecimal digits.
template <typename Tag>
[[nodiscard]] std::string to_string(const Id<Tag>& id) {
    return detail::hex(id.bytes);
}

/// The first eight digits: enough for a person.
template <typename Tag>
[[nodiscard]] std::string short_form(const Id<Tag>& id) {
    return detail::hex(id.bytes).substr(0, 8);
}

template <typename IdType>
[[nodiscard]] Result<IdType> parse_id(std::string_view text) {
    IdType id;
    if (!detail::from_hex(text, id.bytes)) {
        return fail(ErrorKind::invalid, "'{}' is not an id of 32 hexadecimal digits",
                    text.substr(0, 40));
    }
    return id;
}

}  // namespace mirror
