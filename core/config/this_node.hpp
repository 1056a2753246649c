// SPDX-License-Identifier: BSD-3-Clause
// Which node of the configuration this machine is. Values; any thread.
#pragma once

#include <string>

#include "core/config/config.hpp"

namespace mirror {

/// `given`, else $MIRRORDISK_NODE, exactly as the file spells it; else the node of the host name.
[[nodiscard]] Result<const NodeConfig*> this_node(const Config& config, const std::string& given);

/// The node with that whole name (as `uname -n` prints it), else with its part before the first
/// dot. A spelling that differs in case only is accepted where it means one node; an error names
/// them where it could mean several.
[[nodiscard]] Result<const NodeConfig*> node_of_host(const Config& config, const std::string& host);

}  // namespace mirror
