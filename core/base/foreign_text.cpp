// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/foreign_text.hpp"

#include <cstddef>
#include <cstdint>

#include <fmt/format.h>

namespace mirror {
namespace {

struct Letter {
    char32_t code = 0;
    std::size_t size = 1;
    bool is_valid = false;
};

std::uint8_t byte_at(std::string_view text, std::size_t at) noexcept {
    return static_cast<std::uint8_t>(text[at]);
}

/// Strictly: no overlong form, no surrogate, nothing above U+10FFFF. Of what is not valid one byte
/// is taken, and the next is looked at for itself.
Letter first_letter(std::string_view text) noexcept {
    const std::uint8_t lead = byte_at(text, 0);
    if (lead < 0x80) {
        return {lead, 1, true};
    }
    const std::size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || text.size() < size) {
        return {};
    }
    char32_t code = lead & (0x7FU >> size);
    for (std::size_t at = 1; at < size; ++at) {
        if ((byte_at(text, at) & 0xC0U) != 0x80U) {
            return {};
        }
        code = code << 6U | (byte_at(text, at) & 0x3FU);
    }
    const bool is_overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
    const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
    return is_overlong || is_surrogate || code > 0x10FFFF ? Letter{} : Letter{code, size, true};
}

bool is_c0(char32_t code) noexcept {
    return code < 0x20 || code == 0x7F;
}

bool is_hidden_control(char32_t code) noexcept {
    return (code >= 0x80 && code <= 0x9F) || code == 0x061C || code == 0x200E || code == 0x200F ||
           (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

}  // namespace

std::string without_controls(std::string_view text, char instead) {
    std::string clean;
    clean.reserve(text.size());
    while (!text.empty()) {
        const Letter letter = first_letter(text);
        if (!letter.is_valid || is_c0(letter.code) || is_hidden_control(letter.code)) {
            clean += instead;
        } else {
            clean += text.substr(0, letter.size);
        }
        text.remove_prefix(letter.size);
    }
    return clean;
}

std::string json_without_controls(std::string_view json) {
    std::string clean;
    clean.reserve(json.size());
    while (!json.empty()) {
        const Letter letter = first_letter(json);
        if (!letter.is_valid) {
            clean += '?';
        } else if (is_hidden_control(letter.code) || letter.code == 0x7F) {
            clean += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(letter.code));
        } else {
            clean += json.substr(0, letter.size);
        }
        json.remove_prefix(letter.size);
    }
    return clean;
}

}  // namespace mirror
