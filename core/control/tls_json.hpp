// SPDX-License-Identifier: BSD-3-Clause
// How a link's protection is told, by engines, mirrord and `mirrorctl --json` alike. Pure.
#pragma once

#include <optional>

#include <nlohmann/json_fwd.hpp>

#include "core/tls/session.hpp"

namespace mirror::control {

/// {"key", "certificate", "cipher"}, of which one of the first two is null; null: not encrypted.
[[nodiscard]] nlohmann::json encode(const std::optional<tls::Proof>& proof);

}  // namespace mirror::control
