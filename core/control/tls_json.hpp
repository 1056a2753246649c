// SPDX-License-Identifier: BSD-3-Clause
// How a link's protection is told, by engines, mirrord and `mirrorctl --json` alike. Pure.
#pragma once

#include <optional>

#include <nlohmann/json_fwd.hpp>

#include "core/tls/session.hpp"

namespace mirror::control {

/// {"key", "certificate", "node", "cipher", "fault"}, of which one of the first two is null; null:
/// not encrypted. `node`: whom it proves, null for a key of the cluster. `fault`: why the link does
/// not stay, or could not be opened again; null where empty.
[[nodiscard]] nlohmann::json encode(const std::optional<tls::Proof>& proof,
                                    const std::string& fault = {});

}  // namespace mirror::control
