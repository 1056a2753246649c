// SPDX-License-Identifier: BSD-3-Clause
// How bad a volume's status is, for programs: the one table from which `status` has its exit code
// and `check --nagios` its verdict. mirrorctl(8), EXIT STATUS, has the same table, and a unit test
// holds both against each other. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/fields.hpp"

namespace mirror::tools {

/// Exit codes of `mirrorctl status`; the worst volume decides.
inline constexpr int status_in_sync = 0;
inline constexpr int status_degraded = 1;
inline constexpr int status_at_risk = 2;
inline constexpr int status_unknown = 3;

/// Exit codes of a monitoring plugin.
inline constexpr int monitor_ok = 0;
inline constexpr int monitor_warning = 1;
inline constexpr int monitor_critical = 2;
inline constexpr int monitor_unknown = 3;
[[nodiscard]] std::string_view monitor_word(int code) noexcept;

struct Condition {
    std::string_view words;  ///< as in the manual
    int status;              ///< the exit code of `status`
    int monitor;             ///< the exit code of `check --nagios`
};

/// All that there are, in the manual's order.
[[nodiscard]] std::span<const Condition> all_conditions() noexcept;
/// Those in which the volume is: one for its state, and others beside it.
[[nodiscard]] std::vector<Condition> conditions_of(const Json& volume);

/// The worse of two codes of either kind: critical before unknown before warning before fine.
[[nodiscard]] int worse_code(int one, int other) noexcept;
[[nodiscard]] int status_code_of(const Json& volume);
[[nodiscard]] int monitor_code_of(const Json& volume);

/// The node on which the volume is active, as far as `node`, whose status this is, knows; empty:
/// none, or not known.
[[nodiscard]] std::string active_node(const Json& volume, const std::string& node);
/// "Nowhere" is said only when each node has said that it is not.
[[nodiscard]] bool is_activity_known(const Json& volume);
/// Both replicas may be equal: the volume is active on no node.
[[nodiscard]] bool is_active_nowhere(const Json& volume);

}  // namespace mirror::tools
