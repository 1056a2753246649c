// SPDX-License-Identifier: BSD-3-Clause
// The daemon's status as text for a person who was woken by it: the verdict first, then why, then
// what each side has, what would be lost, and what to do next. Pure.
#pragma once

#include <string>

#include "tools/fields.hpp"
#include "tools/terminal.hpp"

namespace mirror::tools {

struct ViewContext {
    Terminal terminal;
    WallTime now;
};

/// Exit codes of `mirrorctl status`; the worst volume decides.
inline constexpr int status_in_sync = 0;
inline constexpr int status_degraded = 1;
inline constexpr int status_at_risk = 2;
inline constexpr int status_unknown = 3;

[[nodiscard]] int status_exit_code(const Json& status);

/// All lines about one volume.
[[nodiscard]] std::string format_volume(const Json& volume, const std::string& node,
                                        const ViewContext& context);
/// One volume: its lines. Several: a table, and a sentence for each that is not in sync.
[[nodiscard]] std::string format_status(const Json& status, const ViewContext& context);

/// What to do about a volume that is not in sync: a sentence; empty when nothing is to be done.
[[nodiscard]] std::string next_step(const Json& volume);

}  // namespace mirror::tools
