// SPDX-License-Identifier: BSD-3-Clause
// The keys of the configuration file, table by table: what a message lists, and where a key belongs
// that stands in the wrong place. Used by the readers of the file, which read each of them.
#pragma once

#include <array>
#include <string_view>

namespace mirror {

inline constexpr auto top_keys =
    std::to_array<std::string_view>({"control_group", "node.NAME", "volume.NAME", "tls", "psk_file",
                                     "x509_dir", "crl_required", "i_know_this_network_is_private"});
inline constexpr auto node_keys =
    std::to_array<std::string_view>({"address", "run_dir", "state_dir", "remote_verbs"});
inline constexpr auto volume_keys = std::to_array<std::string_view>(
    {"size", "mode", "device", "mount", "mount_options", "peer_timeout", "disk_timeout",
     "hook_timeout", "on_peer_loss", "verify_rate", "io_group", "active_at_boot", "remote_verbs",
     "backing.NODE"});

}  // namespace mirror
