// SPDX-License-Identifier: BSD-3-Clause
// Rules for the paths of a configuration that span its tables. Used by the reader of the file only.
#pragma once

#include "core/config/config.hpp"
#include "core/config/item.hpp"

namespace mirror {

/// No path on a node serves twice, be it as backing, as device, as mount, or for mirrord itself;
/// and no mount hides a backing or a folder of mirrord's. `volumes` is the file's table of them.
void check_paths(const Config& config, const Item& volumes, Mistakes& mistakes);

}  // namespace mirror
