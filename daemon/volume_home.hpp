// SPDX-License-Identifier: BSD-3-Clause
// Where a volume lives on this node: its backing, metadata, sockets, device and mount. These come
// from the configuration, but not while the volume is in use: from its promotion to its demotion
// they stay what they were, whatever the file says by then, also across restarts of mirrord and
// engine. Otherwise an engine that dies would come back with the metadata of one replica and the
// bytes of another. So mirrord writes what it gives to an engine into RUN_DIR/VOLUME.settings,
// beside the mark that the volume is active, and reads it when it starts.
//
// Also for a volume whose engine runs though the configuration has it no more: it is supervised as
// it was promoted, until it is demoted.
//
// find_homes() is called before anything is opened, and at a reload with the operations of the
// volumes that it changes (daemon/reload.hpp); the values are read-only then.
#pragma once

#include <map>
#include <string>

#include "core/config/config.hpp"
#include "daemon/running_engines.hpp"

namespace mirror::daemon {

struct VolumeHome {
    NodeConfig node;  ///< with the RUN_DIR and STATE_DIR of this volume
    VolumeConfig volume;
    NodeConfig peer;            ///< the other node
    bool is_configured = true;  ///< the configuration has it
    /// Why the replica must not be opened: its backing is in use for another volume.
    std::string conflict{};

    /// What an engine that is started now is given: TOML.
    [[nodiscard]] std::string engine_config(const TlsConfig& tls) const;
};
using Homes = std::map<std::string, VolumeHome>;

/// Every volume with a replica on `node`. `in_use`: those that are known to be in use, where they
/// are; for a reload, which knows that of a volume whose engine has just died, too.
[[nodiscard]] Homes find_homes(const Config& config, const NodeConfig& node,
                               const std::vector<RunningEngine>& engines, const Homes& in_use = {});

/// `config` with its volumes as they are at home.
[[nodiscard]] Config in_force(const Config& config, const Homes& homes);

/// Where a home differs from the configuration: the setting's name → what is in use, and what the
/// configuration says.
[[nodiscard]] std::map<std::string, std::pair<std::string, std::string>> kept_settings(
    const VolumeHome& home, const Config& config);

/// What an engine in this home is given: for mirrord and the engine alone to read, and written as a
/// whole, so that nobody ever sees a part.
[[nodiscard]] Result<void> write_engine_config(const std::string& path, const std::string& text);

}  // namespace mirror::daemon
