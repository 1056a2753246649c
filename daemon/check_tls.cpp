// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/check_tls.hpp"

#include <algorithm>

#include "core/base/json.hpp"
#include "core/config/words.hpp"
#include "core/control/tls_json.hpp"
#include "daemon/status.hpp"

namespace mirror::daemon {
namespace {

/// What a stranger would be refused with is a problem before anybody comes.
void check_own(const Context& context, Json& problems) {
    if (const auto session = context.tls->accept(); !session) {
        problems.push_back(fmt::format("no peer can connect to {}: {}", context.node.name,
                                       session.error().text()));
    } else if (std::string fault = context.tls->fault_of_crl(); !fault.empty()) {
        problems.push_back(std::move(fault));
    }
}

Json link_entry(const std::string& from, const std::string& to, const Json& volume, const Json& tls,
                const std::vector<std::string>& keys) {
    Json is_current;
    if (const auto key = tls.find("key"); tls.is_object() && key != tls.end() && key->is_string()) {
        is_current = !keys.empty() && key->get<std::string>() == keys.front();
    }
    return {
        {"from", from}, {"to", to}, {"volume", volume}, {"tls", tls}, {"is_current", is_current}};
}

Json links_of(const Context& context, const PeerWatch& peers, const Keepers& keepers,
              const std::vector<std::string>& keys) {
    Json links = Json::array();
    for (const auto& [name, node] : context.config.nodes) {
        if (const PeerView view = peers.view(name); name != context.node.name && view.reachable) {
            links.push_back(
                link_entry(context.node.name, name, Json(), control::encode(view.tls), keys));
        }
    }
    for (const auto& [name, keeper] : keepers) {
        const Json status = keeper->status();
        const Json& peer = status["peers"][0];
        if (status["role"] == "active" && peer["link"] == "connected") {
            links.push_back(link_entry(context.node.name, peer["node"].get<std::string>(), name,
                                       peer["tls"], keys));
        }
    }
    return links;
}

}  // namespace

Json check_tls(const Context& context, const PeerWatch& peers, const Keepers& keepers,
               Json& problems) {
    Json warnings = Json::array();
    std::vector<std::string> keys;
    if (!context.tls) {
        warnings.push_back(std::string(not_encrypted));
    } else {
        check_own(context, problems);
        if (context.tls->mode() == TlsMode::psk) {
            keys = context.tls->names().value_or(std::vector<std::string>{});
        }
    }
    if (keys.size() > 1) {
        warnings.push_back(fmt::format(
            "two keys are accepted, {} and {}: when both nodes have this file, and no link uses "
            "the one that is to go, finish the rotation (KEYS in mirrord(8))",
            keys[0], keys[1]));
    }
    Json links = links_of(context, peers, keepers, keys);
    return {{"tls", to_word(context.config.tls.mode)},
            {"keys", keys},
            {"warnings", std::move(warnings)},
            {"links", std::move(links)}};
}

void compare_keys(const Context& context, const PeerAnswer& answer, Json& problems) {
    if (!context.tls || context.tls->mode() != TlsMode::psk) {
        return;
    }
    const auto ours = context.tls->names();
    if (!ours || *ours == answer.keys) {
        return;  // a file of ours that can't be read is a problem of its own
    }
    problems.push_back(
        fmt::format("{} has the keys {} and {} has {}: copy {} from the node that was changed last "
                    "to the other",
                    context.node.name, fmt::join(*ours, ", "), answer.node,
                    answer.keys.empty() ? "none" : fmt::format("{}", fmt::join(answer.keys, ", ")),
                    context.config.tls.psk_file));
}

}  // namespace mirror::daemon
