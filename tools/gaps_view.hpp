// SPDX-License-Identifier: BSD-3-Clause
// What `status` says of the blocks that a resync could not read: the standby has all but these.
// Pure: from the daemon's answer to text.
#pragma once

#include <string>
#include <vector>

#include "tools/fields.hpp"

namespace mirror::tools {

/// The volume has a peer that lacks such blocks.
[[nodiscard]] bool has_gaps(const Json& volume);
/// A line for each such peer, and none otherwise.
[[nodiscard]] std::vector<std::string> gaps_words(const Json& volume, WallTime now);

}  // namespace mirror::tools
