// SPDX-License-Identifier: BSD-3-Clause
// `restart-engine`: the process that serves an active volume is replaced while the volume is in
// use, by one of the version that is installed now. Called from a request's thread.
#pragma once

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

struct RestartOptions {
    bool disconnect_clients = false;
    bool dry_run = false;
};

[[nodiscard]] Result<Json> restart_engine(VolumeKeeper& keeper, const RestartOptions& options);

}  // namespace mirror::daemon
