// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/node_answers.hpp"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "core/base/json.hpp"
#include "core/control/messages.hpp"
#include "daemon/audience.hpp"
#include "daemon/find_volume.hpp"
#include "daemon/unsupervised.hpp"

namespace mirror::daemon {
namespace {

/// Before anything else of a message is believed.
Result<void> require_protocol(const Json& request) {
    const auto protocol = control::uint_field(request, "protocol");
    if (!protocol) {
        return Failure(protocol.error());
    }
    if (*protocol != control::protocol_version) {
        return Failure(Error{ErrorKind::protocol,
                             fmt::format("this mirrord speaks protocol {}, not protocol {}",
                                         control::protocol_version, *protocol),
                             "install the same version of mirrordisk on both nodes"});
    }
    return {};
}

/// Entries of the status.
bool has_link_to(const std::string& node, const Json& volumes) {
    return std::any_of(volumes.begin(), volumes.end(), [&](const Json& volume) {
        const Json& peers = volume.at("peers");
        return std::any_of(peers.begin(), peers.end(), [&](const Json& peer) {
            return peer.at("node") == node && peer.at("link") == "connected";
        });
    });
}

/// Names are no secrets. Without a usable file: none.
Json key_names(const Context& context) {
    if (!context.tls || context.tls->mode() != TlsMode::psk) {
        return Json::array();
    }
    return context.tls->names().value_or(std::vector<std::string>{});
}

}  // namespace

Json NodeAnswers::version() const {
    return {{"version", MIRROR_VERSION},
            {"protocol", control::protocol_version},
            {"node", context_.node.name}};
}

Result<void> NodeAnswers::require_node(const std::string& claimed,
                                       const nbd::Client& client) const {
    if (!client.node.empty() && !claimed.empty() && claimed != client.node) {
        return Failure(Error{
            ErrorKind::refused, fmt::format("{} says that it is {}", describe(client), claimed),
            "give each node keys or a certificate of its own", /*os_error=*/0, Ground::who});
    }
    if (!claimed.empty() && !context_.used().nodes.contains(claimed)) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} is not a node of {} on {}", claimed,
                                         context_.used().path, context_.node.name),
                             "use the same configuration on all nodes", /*os_error=*/0,
                             Ground::who});
    }
    return {};
}

Result<Json> NodeAnswers::status(const Json& request) const {
    const auto volume = control::optional_string_field(request, "volume");
    if (!volume) {
        return Failure(volume.error());
    }
    auto page = control::Page::asked_for_by(request);
    if (!page) {
        return Failure(page.error());
    }
    Json volumes = Json::array();
    std::set<std::string> peers;
    if (*volume) {
        const auto found = find_volume(context_, keepers_, **volume);
        if (!found) {
            return Failure(found.error());
        }
        volumes.push_back((*found)->status());
        peers.insert((*found)->peer());
    } else {
        for (const auto& [name, each] : keepers_) {
            peers.insert(each->peer());
            if (!page->wants(name)) {
                continue;
            }
            Json entry = each->status();
            if (page->has_room_for(name, entry)) {
                volumes.push_back(std::move(entry));
            }
        }
    }
    Json answer{{"schema", 1}, {"node", context_.node.name}};
    answer["nodes"] = nodes_seen(peers, volumes);
    answer["volumes"] = std::move(volumes);
    answer["unsupervised"] = unsupervised_engines();
    page->note_next(answer);
    return answer;
}

/// After the volumes' entries have asked their peers.
Json NodeAnswers::nodes_seen(const std::set<std::string>& names, const Json& volumes) const {
    Json nodes = Json::array();
    for (const std::string& name : names) {
        const PeerView view = peers_.view(name);
        // One that came a moment ago has a link already while mirrord is about to ask again.
        const bool is_there = view.reachable || has_link_to(name, volumes);
        nodes.push_back(
            {{"node", name},
             {"reachable", is_there},
             {"last_seen",
              view.last_seen == WallTime{} ? Json() : Json(format_rfc3339(view.last_seen))},
             {"why", is_there || view.error.empty() ? Json() : Json(view.error)}});
    }
    return nodes;
}

Json NodeAnswers::unsupervised_engines() const {
    Json engines = Json::array();
    for (const Unsupervised& engine : unsupervised(context_, keepers_)) {
        engines.push_back({{"volume", engine.process.volume},
                           {"pid", engine.process.pid},
                           {"text", engine.text},
                           {"remedy", engine.remedy}});
    }
    return engines;
}

Result<Json> NodeAnswers::peer_status(const Json& request, const std::string& claimed,
                                      const nbd::Client& client) const {
    return require_protocol(request)
        .and_then([&] { return require_node(claimed, client); })
        .and_then([&] { return volumes_for(request, client); });
}

Result<Json> NodeAnswers::volumes_for(const Json& request, const nbd::Client& client) const {
    auto page = control::Page::asked_for_by(request);
    if (!page) {
        return Failure(page.error());
    }
    // A peer of an earlier version does not say which of its looks somebody waits for.
    const auto is_now = control::bool_field_or(request, "now", true);
    if (!is_now) {
        return Failure(is_now.error());
    }
    const auto is_shared = [&](const VolumeConfig& volume) {
        return client.node.empty() || volume.peer_of(context_.node.name) == client.node;
    };
    // One that was taken out of the configuration may still be kept here; both in one order.
    std::map<std::string, const VolumeConfig*> shared;
    for (const auto& [name, keeper] : keepers_) {
        shared[name] = is_shared(keeper->config()) ? &keeper->config() : nullptr;
    }
    for (const auto& [name, volume] : context_.as_read().volumes) {
        shared[name] = is_shared(volume) ? &volume : nullptr;
    }
    Json answer{{"node", context_.node.name},
                {"version", MIRROR_VERSION},
                {"protocol", control::protocol_version},
                {"time", control::encode(context_.clock.wall_now())},
                {"keys", key_names(context_)},
                {"settings", Json::object()},
                {"volumes", Json::object()},
                {"unusable", Json::object()}};
    for (const auto& [name, volume] : shared) {
        if (volume == nullptr || !page->wants(name)) {
            continue;
        }
        add_to_peer_status(name, *is_now, answer, *page);
    }
    page->note_next(answer);
    return answer;
}

void NodeAnswers::add_to_peer_status(const std::string& name, bool is_now, Json& answer,
                                     control::Page& page) const {
    const auto keeper = keepers_.find(name);
    const auto& volumes = context_.as_read().volumes;
    const auto read = volumes.find(name);
    Json settings = read == volumes.end() ? Json() : Json(read->second.shared_settings());
    Json volume = keeper == keepers_.end() ? Json() : keeper->second->peer_status(is_now);
    Json unusable;
    if (keeper != keepers_.end() && volume.is_null()) {
        const VolumeFacts facts = keeper->second->facts();
        unusable = {{"made", facts.place != Place::absent}, {"why", judge_state(facts).why}};
    }
    if (!page.has_room_for(name, Json::array({settings, volume, unusable}))) {
        return;
    }
    for (const auto& [key, entry] :
         {std::pair("settings", &settings), {"volumes", &volume}, {"unusable", &unusable}}) {
        if (!entry->is_null()) {
            answer[key][name] = std::move(*entry);
        }
    }
}

}  // namespace mirror::daemon
