// SPDX-License-Identifier: BSD-3-Clause
// The `control_group` of the configuration, as this machine knows it: names are the same on all
// nodes, numbers need not be. Asked by mirrord at its start and by mirrorctl check. Any thread.
#pragma once

#include <optional>
#include <sys/types.h>

#include "core/config/config.hpp"

namespace mirror {

/// Nothing where none is configured; an error that names file, key and group where the machine has
/// no such group.
[[nodiscard]] Result<std::optional<gid_t>> find_control_group(const Config& config);

}  // namespace mirror
