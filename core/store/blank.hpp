// SPDX-License-Identifier: BSD-3-Clause
// Whether anybody's data lie on a backing, as far as a short look tells. For questions to people
// ("this side looks empty"), never for a decision that equal bytes are equal: see
// BackingInfo::has_data. It reads the disk; any thread.
#pragma once

#include <string>

#include "core/base/error.hpp"

namespace mirror {

/// Only zeroes at the begin, at the end, and at some hundred places between, among them the begin
/// of each piece that takes space in a file: where partition tables, filesystems, databases and
/// their logs leave traces. True for a backing that does not exist.
[[nodiscard]] Result<bool> looks_blank(const std::string& path);

}  // namespace mirror
