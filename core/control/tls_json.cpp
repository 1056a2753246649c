// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/tls_json.hpp"

#include "core/base/json.hpp"

namespace mirror::control {
namespace {

nlohmann::json text_or_null(const std::string& text) {
    return text.empty() ? nlohmann::json() : nlohmann::json(text);
}

}  // namespace

nlohmann::json encode(const std::optional<tls::Proof>& proof, const std::string& fault) {
    if (!proof) {
        return {};
    }
    return {{"key", text_or_null(proof->key)},
            {"certificate", text_or_null(proof->key.empty() ? proof->node : std::string())},
            {"node", text_or_null(proof->node)},
            {"cipher", proof->cipher},
            {"fault", text_or_null(fault)}};
}

}  // namespace mirror::control
