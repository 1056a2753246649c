// SPDX-License-Identifier: BSD-3-Clause
// The keeper of a volume that somebody asks for by name, or why this node has none. Any thread.
#pragma once

#include <string>

#include "daemon/keepers.hpp"

namespace mirror::daemon {

[[nodiscard]] Result<VolumeKeeper*> find_volume(const Context& context, const Keepers& keepers,
                                                const std::string& volume);

}  // namespace mirror::daemon
