// SPDX-License-Identifier: BSD-3-Clause
// A replica's media errors in one line of the status view. Pure.
#pragma once

#include <string>

#include "core/base/clock.hpp"
#include "tools/fields.hpp"

namespace mirror::tools {

/// "3 read errors, 3 repaired; last: read of 1 MiB at 20 MiB, repaired, 2 min ago"; empty when
/// there was no error since the start of the engine or of mirrord.
[[nodiscard]] std::string media_words(const Json& replica, WallTime now);

}  // namespace mirror::tools
