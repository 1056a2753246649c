// SPDX-License-Identifier: BSD-3-Clause
// One event of events.jsonl as text, and which events are wanted. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/base/error.hpp"
#include "tools/fields.hpp"
#include "tools/terminal.hpp"

namespace mirror::tools {

struct EventFilter {
    std::string volume;  ///< empty: all
    std::optional<WallTime> since;

    [[nodiscard]] bool wants(const Json& event) const;
};

/// "2026-03-01T12:30:05Z" or an age: "1h", "30min". The error names what would be accepted.
[[nodiscard]] Result<WallTime> parse_since(std::string_view text, WallTime now);

/// Time, severity, volume, id and text on one line; cause and remedy below, where there are any.
[[nodiscard]] std::string format_event(const Json& event, const Terminal& terminal);

}  // namespace mirror::tools
