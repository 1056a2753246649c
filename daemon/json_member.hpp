// SPDX-License-Identifier: BSD-3-Clause
// Reads an answer of an engine, which may lack what another version has. Pure; any thread.
#pragma once

#include "core/base/json.hpp"

namespace mirror::daemon {

/// The member of that name; null when there is none, or `object` is no object.
[[nodiscard]] inline const nlohmann::json& member(const nlohmann::json& object, const char* name) {
    static const nlohmann::json nothing;
    if (!object.is_object()) {
        return nothing;
    }
    const auto found = object.find(name);
    return found == object.end() ? nothing : *found;
}

}  // namespace mirror::daemon
