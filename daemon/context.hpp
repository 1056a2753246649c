// SPDX-License-Identifier: BSD-3-Clause
// What every part of the daemon shares. Made in main before anything else and destroyed last;
// read-only afterwards, so any thread may look.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>

#include "core/base/clock.hpp"
#include "core/config/config.hpp"
#include "core/events/event_log.hpp"
#include "core/tls/credentials.hpp"

namespace mirror::daemon {

using Json = nlohmann::json;

struct VolumeHome;

struct Context {
    const Config& config;  ///< what is worked with: see daemon/volume_home.hpp
    const NodeConfig& node;
    const Clock& clock;
    EventLog& events;
    std::optional<gid_t> control_group{};  ///< of the config, as this machine knows it
    /// With what connections over TCP are protected; null: not at all.
    std::shared_ptr<const tls::Credentials> tls = nullptr;
    /// `--listen`: the node's own address is translated on the way, and need not be this machine's.
    bool listens_elsewhere = false;
    const Config* file = nullptr;  ///< the configuration as it was read; null: the same
    /// Where the volumes of this node live; null: all where `node` says.
    const std::map<std::string, VolumeHome>* homes = nullptr;

    /// What both nodes have to agree on, and what engines are told.
    [[nodiscard]] const Config& as_read() const noexcept { return file ? *file : config; }
};

}  // namespace mirror::daemon
