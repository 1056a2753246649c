// SPDX-License-Identifier: BSD-3-Clause
// Events in systemd's journal with fields of their own, so that they can be asked for: by volume,
// by id, and by MESSAGE_ID. Speaks the journal's native protocol (one datagram an entry), which
// needs no library. Any thread; nothing waits.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mirror {

inline constexpr const char* journal_socket = "/run/systemd/journal/socket";

/// The namespace of MESSAGE_ID, as mirrordisk-protocol(7) has it.
inline constexpr std::string_view message_id_namespace = "e9a4d3b0-5c1f-4a57-9d0c-6f2b8a71c35e";

/// 32 hexadecimal digits: the name-based UUID (version 5, RFC 9562) of the event's id. Empty where
/// this machine may not compute SHA-1.
[[nodiscard]] std::string message_id(std::string_view event_id);

using JournalFields = std::vector<std::pair<std::string_view, std::string>>;

/// One entry as the protocol has it. Fields without a value are left out.
[[nodiscard]] std::string journal_entry(const JournalFields& fields);

/// False: the journal did not take it, now.
[[nodiscard]] bool send_to_journal(const std::string& entry,
                                   const std::string& path = journal_socket) noexcept;

}  // namespace mirror
