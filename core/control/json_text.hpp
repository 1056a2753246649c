// SPDX-License-Identifier: BSD-3-Clause
// Reads JSON that a stranger or a disk has given: what nests deeper than any message does is not
// looked at, since nlohmann's writing and copying recurse, and a stack ends. Pure; any thread.
#pragma once

#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mirror::control {

/// Whether it nests deeper than `max_depth` (core/control/mailbox.hpp).
[[nodiscard]] bool is_too_deep(std::string_view text) noexcept;
/// Discarded (is_discarded(), and of no type) where the text is not JSON, or nests too deep.
[[nodiscard]] nlohmann::json parse_shallow(std::string_view text);

}  // namespace mirror::control
