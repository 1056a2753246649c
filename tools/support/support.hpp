// SPDX-License-Identifier: BSD-3-Clause
// `mirrorctl support`: one file with what helps others to find a fault. It works with a
// configuration that is wrong and a mirrord that is dead or hangs, since then it is wanted: so it
// has no Session, and each part that can't be had is left out and named. Main thread.
#pragma once

#include <string>

#include "tools/session.hpp"

namespace mirror::tools {

/// The exit code; `config_path` is where the configuration should be.
[[nodiscard]] int support(const Options& options, const std::string& config_path, World& world);

}  // namespace mirror::tools
