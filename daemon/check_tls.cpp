// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/check_tls.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include "core/base/json.hpp"
#include "core/config/words.hpp"
#include "core/control/tls_json.hpp"
#include "core/tls/psk_file.hpp"
#include "core/tls/standing.hpp"
#include "daemon/keepers.hpp"
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

Json link_entry(const Context& context, const std::string& to, const Json& volume,
                const Json& tls) {
    Json is_current;
    if (const auto key = tls.find("key"); tls.is_object() && key != tls.end() && key->is_string()) {
        const auto used = context.tls ? context.tls->name_towards(to) : Result<std::string>();
        // Where the file can't be read nobody knows; that is a problem of its own.
        is_current = used ? Json(key->get<std::string>() == *used) : Json();
    }
    return {{"from", context.node.name},
            {"to", to},
            {"volume", volume},
            {"tls", tls},
            {"is_current", is_current}};
}

Json links_of(const Context& context, const PeerWatch& peers, const Keepers& keepers) {
    Json links = Json::array();
    std::optional<tls::Standing> standing;
    if (context.tls) {
        standing.emplace(context.tls);
        (void)standing->look(context.clock.steady_now());
    }
    for (const auto& [name, node] : context.used().nodes) {
        if (const PeerView view = peers.view(name); name != context.node.name && view.reachable) {
            const std::string fault =
                standing && view.tls ? standing->objection_to(*view.tls) : std::string();
            links.push_back(link_entry(context, name, Json(), control::encode(view.tls, fault)));
        }
    }
    for (const auto& [name, keeper] : keepers) {
        const Json status = keeper->status();
        const Json& peer = status["peers"][0];
        if (status["role"] == "active" && peer["link"] == "connected") {
            links.push_back(
                link_entry(context, peer["node"].get<std::string>(), name, peer["tls"]));
        }
    }
    return links;
}

/// Such a link ends within seconds. One that stays hangs somewhere, and goes with its engine.
void check_links(const Context& context, const Json& links, const std::vector<std::string>& keys,
                 Json& problems) {
    for (const Json& link : links) {
        const std::string fault = fault_of_link(link["tls"], keys, context.used().tls.psk_file);
        if (fault.empty()) {
            continue;
        }
        const std::string to = link["to"].get<std::string>();
        problems.push_back(
            link["volume"].is_null()
                ? fmt::format("the connection to {} can't be relied on: {}", to, fault)
                : fmt::format(
                      "volume {0}: the link to {1} can't be relied on: {2} (a link whose key was "
                      "removed ends within ten seconds; if not: mirrorctl restart-engine {0})",
                      link["volume"].get<std::string>(), to, fault));
    }
}

/// For whom the keys of this node are, by their names.
struct Slots {
    std::vector<std::string> cluster;
    std::map<tls::Direction, std::vector<std::string>> pairs;

    explicit Slots(const std::vector<std::string>& names) {
        for (const std::string& name : names) {
            const auto direction = tls::direction_of(name);
            (direction ? pairs[*direction] : cluster).push_back(name);
        }
    }
};

void warn_of_keys(const Context& context, const Slots& slots, Json& warnings) {
    std::vector<std::string> two = slots.cluster.size() > 1 || !slots.pairs.empty()
                                       ? slots.cluster
                                       : std::vector<std::string>{};
    for (const auto& [direction, names] : slots.pairs) {
        if (names.size() > 1) {
            two.insert(two.end(), names.begin(), names.end());
        }
    }
    if (!two.empty()) {
        warnings.push_back(
            fmt::format("{} are accepted, some of them for a rotation: once both nodes have them "
                        "and no link uses one to be removed, finish it (KEYS in mirrord(8))",
                        fmt::join(two, ", ")));
    }
    if (!slots.cluster.empty() && slots.pairs.empty() && context.used().nodes.size() > 2) {
        warnings.push_back(
            "all nodes have one key, so each of them can pass for any other: mirrorctl keygen "
            "--add --pairs gives each pair of nodes its own (KEYS in mirrord(8))");
    }
}

/// Who has the keys of two others can be either of them.
void check_foreign_keys(const Context& context, const Slots& slots, Json& problems) {
    for (const auto& [direction, names] : slots.pairs) {
        if (!direction.has(context.node.name)) {
            problems.push_back(fmt::format("{} has {}, with which {} can pass for {}: remove it",
                                           context.used().tls.psk_file, fmt::join(names, ", "),
                                           context.node.name, direction.client));
        }
    }
    const Config& config = context.used();
    for (const auto& [peer, node] : config.nodes) {
        const bool is_peer = std::any_of(
            config.volumes.begin(), config.volumes.end(), [&, &name = peer](const auto& volume) {
                return volume.second.peer_of(context.node.name) == name;
            });
        const bool has_both = slots.pairs.contains({context.node.name, peer}) &&
                              slots.pairs.contains({peer, context.node.name});
        if (is_peer && slots.cluster.empty() && !has_both) {
            problems.push_back(fmt::format(
                "{0} lacks keys from {1} to {2} or back: mirrorctl keygen --add --with {2}",
                context.used().tls.psk_file, context.node.name, peer));
        }
    }
}

/// Those that both nodes are to have.
std::vector<std::string> shared_keys(const std::vector<std::string>& names, const std::string& one,
                                     const std::string& other) {
    std::vector<std::string> shared;
    std::vector<std::string> pairs;
    for (const std::string& name : names) {
        const auto direction = tls::direction_of(name);
        if (!direction) {
            shared.push_back(name);
        } else if (direction->has(one) && direction->has(other)) {
            pairs.push_back(name);
        }
    }
    // Each node goes through a rotation by itself: with the keys of two nodes no order is wrong.
    std::sort(pairs.begin(), pairs.end());
    shared.insert(shared.end(), pairs.begin(), pairs.end());
    return shared;
}

}  // namespace

std::string fault_of_link(const Json& tls, const std::vector<std::string>& keys,
                          const std::string& psk_file) {
    if (!tls.is_object()) {
        return {};
    }
    if (const auto fault = tls.find("fault"); fault != tls.end() && fault->is_string()) {
        return fault->get<std::string>();
    }
    const auto key = tls.find("key");
    if (keys.empty() || key == tls.end() || !key->is_string()) {
        return {};
    }
    const auto name = key->get<std::string>();
    return std::find(keys.begin(), keys.end(), name) != keys.end()
               ? std::string()
               : fmt::format("the key {} was removed from {}", name, psk_file);
}

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
    if (!keys.empty()) {
        const Slots slots(keys);
        warn_of_keys(context, slots, warnings);
        check_foreign_keys(context, slots, problems);
    }
    Json links = links_of(context, peers, keepers);
    check_links(context, links, keys, problems);
    return {{"tls", to_word(context.used().tls.mode)},
            {"keys", keys},
            {"warnings", std::move(warnings)},
            {"links", std::move(links)}};
}

void compare_keys(const Context& context, const PeerAnswer& answer, Json& problems) {
    if (!context.tls || context.tls->mode() != TlsMode::psk) {
        return;
    }
    const auto all = context.tls->names();
    if (!all) {
        return;  // a file of ours that can't be read is a problem of its own
    }
    const auto ours = shared_keys(*all, context.node.name, answer.node);
    const auto theirs = shared_keys(answer.keys, context.node.name, answer.node);
    if (ours == theirs) {
        return;
    }
    const bool have_pairs = std::any_of(ours.begin(), ours.end(),
                                        [](const auto& name) { return tls::direction_of(name); });
    problems.push_back(fmt::format(
        "{} has the keys {} and {} has {}: {}", context.node.name, fmt::join(ours, ", "),
        answer.node, theirs.empty() ? "none" : fmt::format("{}", fmt::join(theirs, ", ")),
        have_pairs && context.used().nodes.size() > 2
            ? "give the other what it lacks, as mirrorctl keygen said, or take the same step there"
            : fmt::format("copy {} from the node that was changed last to the other",
                          context.used().tls.psk_file)));
}

}  // namespace mirror::daemon
