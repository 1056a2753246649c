// SPDX-License-Identifier: BSD-3-Clause
// What every part of the daemon shares. Made in main before anything else and destroyed last;
// read-only afterwards but for what a reload replaces, so any thread may look.
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
class LiveConfig;

struct Context {
    const Config& config;    ///< what mirrord started with: see used()
    const NodeConfig& node;  ///< as mirrord started with it
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
    /// What a reload puts in the place of the three above; null: they stay.
    const LiveConfig* live = nullptr;

    // What is returned stays as it is; the next call may return another version.
    /// What is worked with: see daemon/volume_home.hpp.
    [[nodiscard]] const Config& used() const noexcept;
    /// What both nodes have to agree on, and what engines are told.
    [[nodiscard]] const Config& as_read() const noexcept;
    [[nodiscard]] const std::map<std::string, VolumeHome>* homes_now() const noexcept;
};

}  // namespace mirror::daemon
