// SPDX-License-Identifier: BSD-3-Clause
// Settings that the configuration has and an active volume does not, each with both values and the
// step that is left. Whoever changes a setting learns of it from status, check or the log, and not
// from a mirror that breaks. Pure but for config_drift(); any thread.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/config/engine_settings.hpp"
#include "daemon/context.hpp"
#include "daemon/settings_diff.hpp"
#include "daemon/volume_home.hpp"

namespace mirror::daemon {

struct PendingSetting {
    std::string setting;  ///< "peer_timeout"
    std::string used;     ///< by the engine; empty: none
    std::string wanted;   ///< by the configuration; empty: none
    Reach reach = Reach::at_once;
};

/// Every setting of the volume on that node: the name in the file → its value, "" where there is
/// none.
[[nodiscard]] Settings all_settings(const Config& config, const VolumeConfig& volume,
                                    const std::string& node);

/// `engine`: what the engine says that it works with; null: it runs not, or does not say.
[[nodiscard]] std::vector<PendingSetting> pending_settings(const VolumeHome& home,
                                                           const Config& config,
                                                           const Json& engine);

/// A sentence with its step; empty: nothing is pending. `is_active`: an engine serves the volume.
[[nodiscard]] std::string pending_words(const VolumeHome& home,
                                        const std::vector<PendingSetting>& pending, bool is_active);
/// "mirrorctl restart-engine r0", or what else is to be done on that node.
[[nodiscard]] std::string pending_step(const VolumeHome& home,
                                       const std::vector<PendingSetting>& pending, bool is_active);
/// `settings_pending` of the status.
[[nodiscard]] Json encode_pending(const std::vector<PendingSetting>& pending);

/// What the configuration file says by now and mirrord has not read: sentences; none: nothing.
[[nodiscard]] std::vector<std::string> config_drift(const Context& context);

}  // namespace mirror::daemon
