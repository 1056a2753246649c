// SPDX-License-Identifier: BSD-3-Clause
// An address to bind, from the command line: other than a node's address in the config, it may be
// "any" (0.0.0.0, [::]). Pure.
#pragma once

#include <string>

#include "core/config/config.hpp"

namespace mirror::daemon {

/// "HOST:PORT" or "[V6-ADDRESS]:PORT".
[[nodiscard]] Result<Endpoint> parse_endpoint(const std::string& text);

}  // namespace mirror::daemon
