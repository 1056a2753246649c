// SPDX-License-Identifier: BSD-3-Clause
// The cluster's pre-shared keys: a file of lines NAME:HEX, as GnuTLS, libnbd and nbdkit read it.
// The first key is the one that this node connects with; every key in it is accepted. So a rotation
// is: the new key second on all nodes, then first on all nodes, then alone. The file is read anew
// for each connection, so that a change needs no restart. Values; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/base/error.hpp"

namespace mirror::tls {

struct PskKey {
    std::string name;  ///< travels in the clear: it tells which key is meant, and nothing else
    std::vector<std::byte> secret;
};

/// One, or two during a rotation.
using PskKeys = std::vector<PskKey>;
inline constexpr std::size_t most_psk_keys = 2;

/// `path` is for messages, which never show a secret.
[[nodiscard]] Result<PskKeys> parse_psk_keys(const std::string& text, const std::string& path);
[[nodiscard]] std::string text_of(const PskKeys& keys);

/// Refuses a file that anybody but its owner (root, or who runs this) can read or write.
[[nodiscard]] Result<PskKeys> read_psk_file(const std::string& path);
/// Mode 0600, replaced as a whole and durably.
[[nodiscard]] Result<void> write_psk_file(const std::string& path, const PskKeys& keys);

/// 32 random bytes under a name with the date, "20261127-4f3a9c".
[[nodiscard]] Result<PskKey> new_psk_key(const std::string& date);

}  // namespace mirror::tls
