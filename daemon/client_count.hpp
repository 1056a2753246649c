// SPDX-License-Identifier: BSD-3-Clause
// How many connections to a volume there are on this node, for those who would end them: the engine
// counts, and its device's own are none of a client. Asks the engine; called from a request's
// thread.
#pragma once

#include <cstdint>

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// Connections to the volume here, its device's included; 0 where it is not active, or its engine
/// does not answer.
[[nodiscard]] std::uint64_t count_clients(VolumeKeeper& keeper);
/// Of so many, those that are not its device's.
[[nodiscard]] std::uint64_t besides_device(VolumeKeeper& keeper, std::uint64_t clients);
/// Besides the device, those that are still there after a moment: one that has just gone is counted
/// that long.
[[nodiscard]] std::uint64_t count_clients_who_stay(VolumeKeeper& keeper);

}  // namespace mirror::daemon
