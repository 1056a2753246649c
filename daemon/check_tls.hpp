// SPDX-License-Identifier: BSD-3-Clause
// The part of `check` that looks at how connections are protected: this node's key or certificate,
// whether both nodes know the same keys, and which one each link uses. On a request's thread.
#pragma once

#include "daemon/context.hpp"
#include "daemon/peer_watch.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

class Keepers;

/// {"tls", "keys", "warnings", "links"}, and what is wrong added to `problems`. A link is {"from",
/// "to", "volume" (null: mirrord's own), "tls", "is_current"}.
[[nodiscard]] Json check_tls(const Context& context, const PeerWatch& peers, const Keepers& keepers,
                             Json& problems);
/// Why a link with this `tls` does not stay, as it says itself or the names of the `keys` in
/// `psk_file` tell; empty: it may. Pure.
[[nodiscard]] std::string fault_of_link(const Json& tls, const std::vector<std::string>& keys,
                                        const std::string& psk_file);
/// What a peer's keys lack or have too much.
void compare_keys(const Context& context, const PeerAnswer& answer, Json& problems);

}  // namespace mirror::daemon
