// SPDX-License-Identifier: BSD-3-Clause
// What stands behind a control message: a zero byte, a mark of eight bytes and a CRC32C (see
// core/control/mailbox.hpp). Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mirror::control {

/// Zero byte, mark and checksum.
inline constexpr std::size_t message_tail = 1 + 8 + 4;

/// `text`, its zero byte and its trailer; `seed` is 0 for a request, the request's sum for a reply.
[[nodiscard]] std::string with_trailer(std::string text, std::uint32_t seed);
[[nodiscard]] std::uint32_t message_sum(std::string_view text, std::uint32_t seed) noexcept;

struct Message {
    std::string_view text;  ///< what comes before the first zero byte
    enum class Check { fits, absent, wrong } check = Check::absent;
};
/// `bytes` is all that was received; zero bytes may follow the message.
[[nodiscard]] Message split_message(std::span<const std::byte> bytes, std::uint32_t seed) noexcept;

}  // namespace mirror::control
