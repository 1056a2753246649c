// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/mailbox_trailer.hpp"

#include <algorithm>
#include <array>

#include "core/base/checksum.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::control {
namespace {

constexpr std::string_view mark = "mdcrc32c";

}  // namespace

std::uint32_t message_sum(std::string_view text, std::uint32_t seed) noexcept {
    return crc32c(std::as_bytes(std::span(text)), seed);
}

std::string with_trailer(std::string text, std::uint32_t seed) {
    std::array<std::byte, 4> sum;
    nbd::store_be(sum.data(), message_sum(text, seed));
    text += '\0';
    text += mark;
    text.append(reinterpret_cast<const char*>(sum.data()), sum.size());
    return text;
}

Message split_message(std::span<const std::byte> bytes, std::uint32_t seed) noexcept {
    const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const std::size_t end = std::min(all.find('\0'), all.size());
    Message message{.text = all.substr(0, end)};
    const std::string_view tail = all.substr(end);
    const std::string_view beyond = tail.substr(std::min(message_tail, tail.size()));
    const auto only_zeroes = [](std::string_view part) {
        return part.find_first_not_of('\0') == std::string_view::npos;
    };
    // The mark in the text: it is the zero byte before it that was garbled.
    if (only_zeroes(tail) && message.text.find(mark) == std::string_view::npos) {
        return message;  // a stock tool's
    }
    const bool fits = tail.size() >= message_tail && tail.substr(1, mark.size()) == mark &&
                      nbd::load_be<std::uint32_t>(bytes.data() + end + 1 + mark.size()) ==
                          message_sum(message.text, seed) &&
                      only_zeroes(beyond);
    message.check = fits ? Message::Check::fits : Message::Check::wrong;
    return message;
}

}  // namespace mirror::control
