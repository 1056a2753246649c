// SPDX-License-Identifier: BSD-3-Clause
// `check`: whether the nodes' addresses mean, on this machine, what they should. Called from a
// request's thread; looking up a name may take its time.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "daemon/context.hpp"

namespace mirror::daemon {

/// The numbers of each node's host as this machine knows them, or why it knows none.
using NodeNumbers = std::map<std::string, Result<std::vector<std::string>>>;

/// Sentences. `all_reached`: every peer answers, so that loopback addresses are those of one
/// machine with several nodes.
[[nodiscard]] std::vector<std::string> judge_addresses(const Config& config,
                                                       const std::string& node,
                                                       const NodeNumbers& numbers,
                                                       bool all_reached);

void check_addresses(const Context& context, bool all_reached, Json& problems);

}  // namespace mirror::daemon
