// SPDX-License-Identifier: BSD-3-Clause
// Parts of a bundle for support, each bounded in time. Main thread.
#pragma once

#include <string>

#include "core/config/config.hpp"
#include "tools/support/bundle.hpp"

namespace mirror::tools {

/// Versions, the units and their journal, disks, memory, the network.
void take_machine(Bundle& bundle);

/// The configuration, the names of what lies beside it, and the keys that must not get through.
void take_configuration(Bundle& bundle, const std::string& path, const TlsConfig& protection);

/// Events, metadata, the files of mirrord, and how its processes are.
void take_node(Bundle& bundle, const NodeConfig& node);

}  // namespace mirror::tools
