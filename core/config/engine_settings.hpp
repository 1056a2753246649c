// SPDX-License-Identifier: BSD-3-Clause
// What the engine of one volume works with. mirrord has a configuration in force: the one that it
// read when it started. An engine may start much later, and must not read the file of that day,
// where somebody may be preparing tomorrow's: half of its settings would be others than mirrord's.
// So it is given its part of what is in force, in the file's own language, and says afterwards what
// it works with, so that a difference can be named. Pure; any thread.
//
// The rule for a new setting that an engine uses: it goes into all functions here, and reach_of()
// says how a change of it gets to an engine that runs.
#pragma once

#include <map>
#include <string>

#include "core/config/config.hpp"

namespace mirror {

/// `volume`, the nodes of `config` that it is on, and how these are protected, as a configuration
/// of its own (TOML), whose every path is absolute and which leaves nothing to a default.
[[nodiscard]] std::string engine_config(const Config& config, const VolumeConfig& volume);

/// What an engine on `node` works with: the setting's name in the file → its value.
[[nodiscard]] std::map<std::string, std::string> engine_settings(const Config& config,
                                                                 const VolumeConfig& volume,
                                                                 const std::string& node);

/// How a change of a setting reaches an engine that runs.
enum class Reach {
    at_once,      ///< mirrord tells it
    next_engine,  ///< `mirrorctl restart-engine`
    next_role,    ///< not while the volume is active: it says where the volume's data are
};
[[nodiscard]] Reach reach_of(const std::string& setting, const std::string& node) noexcept;

/// `running` with what may change at once taken from `wanted`; both have the volume. As it was
/// where `wanted` is for other nodes: taking a part of that would be neither.
[[nodiscard]] Config take_at_once(const Config& running, const Config& wanted,
                                  const std::string& volume, const std::string& node);

}  // namespace mirror
