// SPDX-License-Identifier: BSD-3-Clause
#include "tools/join_block.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "core/base/checksum.hpp"
#include "core/config/config.hpp"

namespace mirror::tools {
namespace {

constexpr std::string_view letters_of_64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::size_t line_length = 72;
constexpr std::size_t checksum_size = 4;
constexpr std::string_view version = "mirrordisk-join 1 ";

void append(tls::Secret& bytes, std::string_view text) {
    for (const char letter : text) {
        bytes.push_back(static_cast<std::byte>(letter));
    }
}

std::uint32_t checksum_of(const tls::Secret& bytes, std::size_t size) {
    return crc32c(std::span(bytes.data(), size));
}

/// Three bytes are four letters.
void append_letters(tls::Secret& text, const tls::Secret& bytes) {
    std::size_t column = 0;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        std::uint32_t group = 0;
        const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
        for (std::size_t byte = 0; byte < 3; ++byte) {
            group = group << 8U |
                    (byte < count ? std::to_integer<std::uint32_t>(bytes.at(at + byte)) : 0U);
        }
        for (std::size_t letter = 0; letter < 4; ++letter) {
            const std::uint32_t value = group >> (18U - 6U * letter) & 63U;
            text.push_back(static_cast<std::byte>(letter <= count ? letters_of_64[value] : '='));
        }
        column += 4;
        if (column >= line_length) {
            append(text, "\n");
            column = 0;
        }
    }
    append(text, column == 0 ? "" : "\n");
}

Failure not_whole() {
    return Failure(Error{ErrorKind::invalid, "the block is not whole, or was changed on the way",
                         "paste all of it, from the line BEGIN to the line END; it is shown by: "
                         "mirrorctl init --show-join"});
}

Result<tls::Secret> bytes_of(const tls::Secret& letters) {
    tls::Secret bytes;
    bytes.reserve(letters.size() / 4 * 3);
    std::uint32_t group = 0;
    std::size_t bits = 0;
    bool is_padded = false;
    for (const std::byte each : letters) {
        const char letter = static_cast<char>(each);
        const std::size_t value = letters_of_64.find(letter);
        if (letter == '=') {
            is_padded = true;
            continue;
        }
        if (value == std::string_view::npos || is_padded) {
            return not_whole();
        }
        group = (group << 6U | static_cast<std::uint32_t>(value)) & 0xffffffU;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes.push_back(static_cast<std::byte>(group >> bits & 0xffU));
        }
    }
    // What is left over of the last letter is zero, or that letter was another one.
    return (group & ((1U << bits) - 1)) == 0 ? Result<tls::Secret>(std::move(bytes)) : not_whole();
}

}  // namespace

tls::Secret encode_join(const JoinBlock& block) {
    tls::Secret bytes;
    append(bytes, fmt::format("{}{} {}\n", version, block.from, block.config.size()));
    append(bytes, block.config);
    append(bytes, block.keys.text());
    const std::uint32_t sum = checksum_of(bytes, bytes.size());
    for (std::size_t byte = 0; byte < checksum_size; ++byte) {
        bytes.push_back(static_cast<std::byte>(sum >> 8U * byte & 0xffU));
    }
    tls::Secret text;
    text.reserve(bytes.size() / 3 * 4 + bytes.size() / 50 + 200);
    append(text, join_begin);
    append(text, "\n");
    append_letters(text, bytes);
    append(text, join_end);
    append(text, "\n");
    return text;
}

Result<JoinBlock> decode_join(const tls::Secret& letters) {
    const auto bytes = bytes_of(letters);
    if (!bytes) {
        return Failure(bytes.error());
    }
    if (bytes->size() < checksum_size) {
        return not_whole();
    }
    const std::size_t size = bytes->size() - checksum_size;
    std::uint32_t sum = 0;
    for (std::size_t byte = 0; byte < checksum_size; ++byte) {
        sum |= std::to_integer<std::uint32_t>(bytes->at(size + byte)) << 8U * byte;
    }
    if (checksum_of(*bytes, size) != sum) {
        return not_whole();
    }
    std::string_view rest = bytes->text().substr(0, size);
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (!line.starts_with(version)) {
        return Failure(Error{ErrorKind::invalid, "the block is of another version of mirrordisk",
                             "install the same version on both nodes"});
    }
    const std::string_view words = line.substr(version.size());
    const std::size_t space = std::min(words.find(' '), words.size());
    JoinBlock block{.from = std::string(words.substr(0, space)), .config = {}};
    std::size_t length = 0;
    const std::string_view number = words.substr(std::min(space + 1, words.size()));
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), length);
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (parsed.ec != std::errc{} || length > rest.size() || !is_valid_name(block.from)) {
        return not_whole();
    }
    block.config = rest.substr(0, length);
    append(block.keys, rest.substr(length));
    return block;
}

}  // namespace mirror::tools
