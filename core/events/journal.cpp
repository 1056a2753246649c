// SPDX-License-Identifier: BSD-3-Clause
#include "core/events/journal.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <gnutls/crypto.h>
#include <span>
#include <sys/socket.h>
#include <sys/un.h>

#include "core/base/fd.hpp"
#include "core/base/id.hpp"

namespace mirror {
namespace {

std::string without_dashes(std::string_view uuid) {
    std::string digits(uuid);
    digits.erase(std::remove(digits.begin(), digits.end(), '-'), digits.end());
    return digits;
}

void append_length(std::string& entry, std::uint64_t length) {
    for (unsigned shift = 0; shift < 64; shift += 8) {
        entry += static_cast<char>((length >> shift) & 0xff);  // little-endian
    }
}

}  // namespace

std::string message_id(std::string_view event_id) {
    constexpr std::size_t version_byte = 6;
    constexpr std::size_t variant_byte = 8;
    Id<struct MessageTag> id;
    if (!detail::from_hex(without_dashes(message_id_namespace), id.bytes)) {
        return {};
    }
    std::string named(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
    named += event_id;
    std::array<std::uint8_t, 20> digest{};
    if (::gnutls_hash_fast(GNUTLS_DIG_SHA1, named.data(), named.size(), digest.data()) != 0) {
        return {};
    }
    std::copy_n(digest.begin(), id.bytes.size(), id.bytes.begin());
    id.bytes[version_byte] = static_cast<std::uint8_t>((id.bytes[version_byte] & 0x0f) | 0x50);
    id.bytes[variant_byte] = static_cast<std::uint8_t>((id.bytes[variant_byte] & 0x3f) | 0x80);
    return detail::hex(id.bytes);
}

std::string journal_entry(const JournalFields& fields) {
    std::string entry;
    for (const auto& [name, value] : fields) {
        if (value.empty()) {
            continue;
        }
        entry += name;
        if (value.find('\n') == std::string::npos) {
            entry += '=';
        } else {
            entry += '\n';
            append_length(entry, value.size());
        }
        entry += value;
        entry += '\n';
    }
    return entry;
}

bool send_to_journal(const std::string& entry, const std::string& path) noexcept {
    sockaddr_un address{};
    if (path.size() >= sizeof address.sun_path) {
        return false;
    }
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    return socket.is_open() &&
           ::sendto(socket.get(), entry.data(), entry.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                    reinterpret_cast<const sockaddr*>(&address),
                    size) == static_cast<ssize_t>(entry.size());
}

}  // namespace mirror
