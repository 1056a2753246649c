// SPDX-License-Identifier: BSD-3-Clause
// Both nodes must run a volume with the same settings; what differs is named with both values.
// Pure; any thread.
#pragma once

#include <map>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "core/base/error.hpp"

namespace mirror::daemon {

using Settings = std::map<std::string, std::string>;

/// An object of strings; anything else is `invalid`.
[[nodiscard]] Result<Settings> settings_from_json(const nlohmann::json& value);

/// Without what counts only until a volume's replicas are made: the metadata have its size then.
[[nodiscard]] Settings once_made(Settings settings);

/// `refused` when they differ: "alpha and beta have different configs for volume r0: peer_timeout
/// is 5s on alpha and 10s on beta".
[[nodiscard]] Result<void> require_same_settings(const std::string& volume,
                                                 const std::string& our_node, const Settings& ours,
                                                 const std::string& peer_node,
                                                 const Settings& theirs);
/// As require_same_settings, where the configurations are the same and the peer's engine was
/// started before they were.
[[nodiscard]] Result<void> require_current_engine(const std::string& volume,
                                                  const std::string& our_node, const Settings& ours,
                                                  const std::string& peer_node,
                                                  const Settings& engines);

}  // namespace mirror::daemon
