// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/id.hpp"

#include <charconv>
#include <cstdlib>
#include <sys/random.h>

namespace mirror::detail {

void fill_random(std::span<std::uint8_t, 16> bytes) {
    // getrandom() of up to 256 bytes is all or nothing once the pool is ready (getrandom(2)).
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
        std::abort();  // a kernel without random numbers cannot name sessions safely
    }
}

std::string hex(std::span<const std::uint8_t, 16> bytes) {
    std::string text;
    text.reserve(32);
    for (std::uint8_t byte : bytes) {
        text += fmt::format("{:02x}", byte);
    }
    return text;
}

bool from_hex(std::string_view text, std::span<std::uint8_t, 16> bytes) noexcept {
    if (text.size() != 32) {
        return false;
    }
    for (std::size_t i = 0; i < 16; ++i) {
        const char* first = text.data() + 2 * i;
        const auto [end, error] = std::from_chars(first, first + 2, bytes[i], 16);
        if (error != std::errc{} || end != first + 2) {
            return false;
        }
    }
    return true;
}

}  // namespace mirror::detail
