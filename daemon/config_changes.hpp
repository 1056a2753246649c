// SPDX-License-Identifier: BSD-3-Clause
// What a configuration that is read again changes, key by key, and what each change still needs. A
// reload takes what belongs to volumes; where this node listens, how connections are protected and
// where its files are stays as it was when mirrord started. Pure; any thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/config/config.hpp"
#include "daemon/volume_home.hpp"

namespace mirror::daemon {

struct ConfigChange {
    enum class Needs {
        nothing,         ///< it is in force
        restart_engine,  ///< the engine that runs can't take it
        standby,         ///< not while the volume is active here
        restart_mirrord,
    };

    std::string volume;   ///< empty: of the node
    std::string setting;  ///< empty: the volume as a whole
    std::string was;      ///< empty: not set
    std::string now;
    Needs needs = Needs::nothing;
};

/// `wanted`, with what needs a restart of mirrord as it is in `running`. Both have the node.
[[nodiscard]] Config without_node_settings(const Config& running, Config wanted,
                                           const std::string& node);
/// What without_node_settings() keeps back.
[[nodiscard]] std::vector<ConfigChange> node_changes(const Config& running, const Config& wanted,
                                                     const std::string& node);
/// Puts volumes with nodes that are not among those of `started` back to what they are in
/// `running`: who may connect was settled when mirrord started.
[[nodiscard]] std::vector<ConfigChange> hold_back_new_peers(const Config& started,
                                                            const Config& running, Config& wanted,
                                                            const std::string& node);
/// Of the volumes with a replica on the node. `is_active`: an engine serves the volume there, or
/// will when it is started again.
[[nodiscard]] std::vector<ConfigChange> volume_changes(
    const Config& running, const Config& wanted, const std::string& node,
    const std::function<bool(const std::string&)>& is_active);

/// What a volume that was in use kept until now, and what an earlier reload therefore left: in
/// force now, or, while it is still in use, with the step that is left.
[[nodiscard]] std::vector<ConfigChange> kept_changes(const VolumeHome& home, const Config& wanted,
                                                     bool is_in_use);
/// Whether there is nothing in which the two differ for any node.
[[nodiscard]] bool say_the_same(const Config& one, const Config& other);

/// The command that is left; empty: none.
[[nodiscard]] std::string step_of(const ConfigChange& change);
/// "r0: peer_timeout 5000ms -> 2000ms", with the step.
[[nodiscard]] std::string words_of(const ConfigChange& change);
[[nodiscard]] nlohmann::json encode(const ConfigChange& change);

}  // namespace mirror::daemon
