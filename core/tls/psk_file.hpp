// SPDX-License-Identifier: BSD-3-Clause
// A node's pre-shared keys: a file of lines NAME:HEX, as GnuTLS, libnbd and nbdkit read it. A key
// named CLIENT+SERVER+ID is for connections from that node to that one alone: who shows it is that
// node, and what was meant for one node is no use at another, nor when it is sent back (RFC 9257,
// 4.1). A key of another name is the cluster's: who has it may be any node, in either direction.
//
// The first key that fits is the one that this node connects with; every one that fits is accepted.
// So a rotation is: the new key second on all nodes, then first, then alone. The file is read anew
// for each connection, so that a change needs no restart. Values; any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/tls/secret.hpp"

namespace mirror::tls {

struct PskKey {
    std::string name;  ///< travels in the clear: it tells which key is meant, and nothing else
    Secret secret;
};

using PskKeys = std::vector<PskKey>;
/// Of the cluster's, and of each direction: one, or two during a rotation.
inline constexpr std::size_t most_psk_keys = 2;
/// Of all: more than any cluster has.
inline constexpr std::size_t most_psk_lines = 256;
/// GnuTLS keeps no longer identity.
inline constexpr std::size_t longest_key_name = 127;

/// For whom a key is.
struct Direction {
    std::string client;
    std::string server;

    /// Whether it is between that node and another one.
    [[nodiscard]] bool has(const std::string& node) const {
        return client == node || server == node;
    }
    friend auto operator<=>(const Direction&, const Direction&) = default;
};
/// Of a key of this name; none: it is the cluster's.
[[nodiscard]] std::optional<Direction> direction_of(const std::string& name);
/// With which key `client` connects to `server`; null: it has none.
[[nodiscard]] const PskKey* key_towards(const PskKeys& keys, const Direction& direction);
/// Those that one of `clients` may show to `server`.
[[nodiscard]] PskKeys keys_accepted(PskKeys keys, const std::string& server,
                                    const std::vector<std::string>& clients);

/// `path` is for messages, which never show a secret.
[[nodiscard]] Result<PskKeys> parse_psk_keys(std::string_view text, const std::string& path);
[[nodiscard]] std::string text_of(const PskKeys& keys);
/// The same in memory that is wiped.
[[nodiscard]] Secret secret_text_of(const PskKeys& keys);

/// Refuses a file that anybody but its owner (root, or who runs this) can read or write.
[[nodiscard]] Result<PskKeys> read_psk_file(const std::string& path);
/// What a file that read_psk_file() refuses (for its mode, or for a line) has nevertheless. Lets
/// nobody in: it tells whose key is there no more. May be none; fails where it can't be read.
[[nodiscard]] Result<PskKeys> legible_keys(const std::string& path);
/// Mode 0600, replaced as a whole and durably.
[[nodiscard]] Result<void> write_psk_file(const std::string& path, const PskKeys& keys);

/// Tells a key from every other, also from one of the same name, and nothing of its secret.
[[nodiscard]] std::string digest_of(const PskKey& key);

/// 32 random bytes under a name that tells nothing but which key is meant: "key-4f3a9c".
[[nodiscard]] Result<PskKey> new_psk_key(const std::string& word = "key");
/// The same for one direction: "alpha+beta+4f3a9c". Fails where the nodes' names are too long.
[[nodiscard]] Result<PskKey> new_psk_key(const Direction& direction);

}  // namespace mirror::tls
