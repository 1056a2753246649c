// SPDX-License-Identifier: BSD-3-Clause
// The keys that say how the nodes' connections are protected, and the rule that nothing leaves the
// machine unencrypted by accident. Used by the reader of the file only.
#pragma once

#include <array>
#include <string_view>

#include "core/config/config.hpp"
#include "core/config/item.hpp"

namespace mirror {

inline constexpr std::array<std::string_view, 5> network_keys{
    "tls", "psk_file", "x509_dir", "crl_required", "i_know_this_network_is_private"};

/// What is used where the file says nothing.
[[nodiscard]] TlsConfig default_tls(const std::string& config_path);
/// One of network_keys.
[[nodiscard]] Result<void> read_network_key(TlsConfig& tls, const Item& item, std::string_view key);
/// When all keys and nodes are read; `item` is the key `tls`.
[[nodiscard]] Result<void> check_network(const Config& config, const Item& item);

}  // namespace mirror
