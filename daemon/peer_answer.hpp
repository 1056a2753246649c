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
    Json resync;                   ///< as in the status; null when none
    WallTime last_write{};         ///< to the backing file there; epoch: unknown
    std::string advice{};          ///< what to do there about `why`; empty: it gave none
    std::string settings_words{};  ///< its engine has other settings than its configuration
};

struct PeerAnswer {
    std::string node;
    std::string version;
    std::uint64_t protocol = 0;
    WallTime time{};
    std::map<std::string, Settings> settings;   ///< of every volume in its config
    std::map<std::string, PeerVolume> volumes;  ///< those that exist there
    /// Those of the others of which it keeps a replica, or should: why it shows none.
    struct Unusable {
        bool is_made = false;  ///< it was created there, and can't be used
        std::string why;       ///< a sentence; empty: it gave none
    };
    std::map<std::string, Unusable> unusable{};
    /// The names of the keys that it has, the one that it uses first; empty without keys.
    std::vector<std::string> keys{};
};

[[nodiscard]] Result<PeerAnswer> parse_peer_answer(const Json& answer);

/// "beta can't be reached: …" where that is so. A peer that was reached, and refused or answered
/// what can't be used, is said to have answered: the two need different steps, and only the first
/// may mean that it is gone.
[[nodiscard]] std::string why_not_seen(const std::string& peer, const Error& error);
[[nodiscard]] bool was_reached(const Error& error) noexcept;

/// A peer that answers, without a replica of the volume that could be used: what is the matter, and
/// what to do.
struct NoReplica {
    std::string reason;
    std::string remedy;
};
[[nodiscard]] NoReplica why_no_replica(const PeerAnswer& answer, const std::string& volume);

/// What is known of a peer now.
struct PeerView {
    bool reachable = false;
    std::optional<PeerAnswer> answer;  ///< the last one, however old
    WallTime last_seen{};              ///< epoch: never since mirrord started
    std::string error;                 ///< why it is not, a sentence (why_not_seen)
    std::optional<tls::Proof> tls{};   ///< of our connection to it
    std::string remedy{};              ///< what helps against `error`; empty: to make it reachable

    /// The volume as seen there, only while the peer is reachable.
    [[nodiscard]] const PeerVolume* volume(const std::string& name) const;
};

}  // namespace mirror::daemon
