// SPDX-License-Identifier: BSD-3-Clause
// The words of an enum, for messages and for people: one table a type, read both ways. A private
// helper of this room. Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

#include "core/base/error.hpp"

namespace mirror::detail {

template <typename Enum, std::size_t N>
using Words = std::array<std::pair<Enum, std::string_view>, N>;

template <typename Enum, std::size_t N>
[[nodiscard]] std::string_view word_of(const Words<Enum, N>& words, Enum value) noexcept {
    for (const auto& [known, word] : words) {
        if (known == value) {
            return word;
        }
    }
    return "unknown";
}

/// `what` names the type in the error: "role", "replica state".
template <typename Enum, std::size_t N>
[[nodiscard]] Result<Enum> parse_word(const Words<Enum, N>& words, std::string_view text,
                                      std::string_view what) {
    for (const auto& [value, word] : words) {
        if (word == text) {
            return value;
        }
    }
    return fail(ErrorKind::invalid, "'{}' is not a {}", text.substr(0, 40), what);
}

}  // namespace mirror::detail
