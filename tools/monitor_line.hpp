// SPDX-License-Identifier: BSD-3-Clause
// The one line of `mirrorctl check --nagios`, as monitoring plugins print it: a verdict, why, and
// figures behind a bar. What could not be found out is never OK. Pure.
#pragma once

#include <optional>
#include <string>

#include "core/base/error.hpp"
#include "tools/fields.hpp"

namespace mirror::tools {

struct MonitorLine {
    int code;  ///< tools/verdict.hpp
    std::string text;
};

/// `check` is mirrord's answer about the node, where it was asked.
[[nodiscard]] MonitorLine monitor_line(const Result<Json>& status,
                                       const std::optional<Result<Json>>& check);
/// For what ends before anything could be asked.
[[nodiscard]] MonitorLine monitor_unknown_line(const std::string& why);

}  // namespace mirror::tools
