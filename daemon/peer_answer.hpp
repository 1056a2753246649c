// SPDX-License-Identifier: BSD-3-Clause
// What a peer's mirrord says of itself (`peer-status`, docs/design.md, section 7.2), checked.
// Values; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.hpp"
#include "core/lineage/summary.hpp"
#include "daemon/context.hpp"
#include "daemon/settings_diff.hpp"

namespace mirror::daemon {

/// One volume of which the peer has a replica.
struct PeerVolume {
    ReplicaSummary summary;
    Role role = Role::standby;
    std::string state;  ///< the volume's state there
    std::string why;
    std::optional<std::uint64_t> behind_bytes;  ///< how far its standby (we) is behind
    bool engine_running = false;
    Json resync;            ///< as in the status; null when none
    WallTime last_write{};  ///< to the backing file there; epoch: unknown
};

struct PeerAnswer {
    std::string node;
    std::string version;
    std::uint64_t protocol = 0;
    WallTime time{};
    std::map<std::string, Settings> settings;   ///< of every volume in its config
    std::map<std::string, PeerVolume> volumes;  ///< those that exist there
    /// The names of the keys that it has, the one that it uses first; empty without keys.
    std::vector<std::string> keys{};
};

[[nodiscard]] Result<PeerAnswer> parse_peer_answer(const Json& answer);

/// What is known of a peer now.
struct PeerView {
    bool reachable = false;
    std::optional<PeerAnswer> answer;  ///< the last one, however old
    WallTime last_seen{};              ///< epoch: never since mirrord started
    std::string error;                 ///< why it is not reachable
    std::optional<tls::Proof> tls{};   ///< of our connection to it

    /// The volume as seen there, only while the peer is reachable.
    [[nodiscard]] const PeerVolume* volume(const std::string& name) const;
};

}  // namespace mirror::daemon
