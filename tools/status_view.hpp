// SPDX-License-Identifier: BSD-3-Clause
// The daemon's status as text for a person who was woken by it: the verdict first, then why, then
// what each side has, what would be lost, and what to do next. Pure.
#pragma once

#include <string>

#include "tools/fields.hpp"
#include "tools/terminal.hpp"
#include "tools/verdict.hpp"

namespace mirror::tools {

struct ViewContext {
    Terminal terminal;
    WallTime now;
};

/// Of `mirrorctl status` (tools/verdict.hpp); the worst volume decides.
[[nodiscard]] int status_exit_code(const Json& status);

/// All lines about one volume.
[[nodiscard]] std::string format_volume(const Json& volume, const std::string& node,
                                        const ViewContext& context);
/// One volume: its lines. Several: a table, and a sentence for each that is not in sync.
[[nodiscard]] std::string format_status(const Json& status, const ViewContext& context);

/// What to do about a volume that is not in sync: a sentence; empty when nothing is to be done.
[[nodiscard]] std::string next_step(const Json& volume);

}  // namespace mirror::tools
