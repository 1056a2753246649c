// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/requests.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <limits>
#include <optional>
#include <set>
#include <string_view>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "core/control/pages.hpp"
#include "core/events/asked_by.hpp"
#include "daemon/audience.hpp"
#include "daemon/check.hpp"
#include "daemon/create.hpp"
#include "daemon/cut_off.hpp"
#include "daemon/demote.hpp"
#include "daemon/demote_all.hpp"
#include "daemon/event_hooks.hpp"
#include "daemon/grow_replica.hpp"
#include "daemon/promote.hpp"
#include "daemon/replace.hpp"
#include "daemon/replica_comparison.hpp"
#include "daemon/resize.hpp"
#include "daemon/resolve.hpp"
#include "daemon/restart_engine.hpp"
#include "daemon/sessions.hpp"
#include "daemon/switch.hpp"
#include "daemon/undo_keeping.hpp"
#include "daemon/unsupervised.hpp"

namespace mirror::daemon {
namespace {

using VolumeHandler = Result<Json> (*)(VolumeKeeper&, const Json&, const Asking&);

struct Entry {
    std::string_view name;
    VolumeHandler handler;
};

Result<Json> handle_create(VolumeKeeper& keeper, const Json& request, const Asking&) {
    const auto overwrite = control::bool_field_or(request, "overwrite_peer", false);
    const auto local_only = control::bool_field_or(request, "local_only", false);
    const auto replace = control::bool_field_or(request, "replace", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    const auto from_empty = control::bool_field_or(request, "from_empty", false);
    const auto accept_mode = control::bool_field_or(request, "accept_mode", false);
    for (const auto* field :
         {&overwrite, &local_only, &replace, &dry_run, &from_empty, &accept_mode}) {
        if (!field->has_value()) {
            return Failure(field->error());
        }
    }
    if (*from_empty && !*overwrite) {
        return fail(ErrorKind::invalid, "--from-empty requires --overwrite-peer");
    }
    if (*replace && (*overwrite || *local_only)) {
        return fail(ErrorKind::invalid,
                    "--replace can't be combined with --overwrite-peer or --local-only");
    }
    if (*replace) {
        return replace_replica(
            keeper, *dry_run,
            *accept_mode ? ReplicaFiles::Access::as_it_is : ReplicaFiles::Access::ours_alone);
    }
    return create(keeper, {*overwrite, *local_only, *dry_run, *from_empty, *accept_mode});
}

/// Why the role changes, in a word for the hooks: the verb, unless the request says "switch".
std::string cause_of(const Json& request, const char* verb) {
    const auto cause = control::optional_string_field(request, "cause");
    return cause && cause->value_or("") == "switch" ? "switch" : verb;
}

Result<Json> handle_promote(VolumeKeeper& keeper, const Json& request, const Asking& asking) {
    const auto force = control::bool_field_or(request, "force", false);
    const auto fenced = control::bool_field_or(request, "fenced", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    const auto after_demote = control::bool_field_or(request, "after_demote", false);
    for (const auto* field : {&force, &fenced, &dry_run, &after_demote}) {
        if (!field->has_value()) {
            return Failure(field->error());
        }
    }
    if ((*force || *fenced) && !asking.is_local) {
        return Failure(Error{ErrorKind::refused,
                             "a peer may not ask for a forced promotion",
                             {},
                             /*os_error=*/0,
                             Ground::who});
    }
    // Without dry_run it would promote next to an active peer.
    return promote(keeper, {*force, *fenced, *dry_run, *after_demote && *dry_run,
                            cause_of(request, "promote")});
}

Result<Json> handle_demote(VolumeKeeper& keeper, const Json& request, const Asking& asking) {
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!disconnect || !dry_run) {
        return Failure(disconnect ? dry_run.error() : disconnect.error());
    }
    const std::string cause = cause_of(request, "demote");
    const CutOff cut_off(keeper, asking, *disconnect,
                         cause == "switch"
                             ? fmt::format("switch {} --to {}", keeper.name(), keeper.peer())
                             : fmt::format("demote {}", keeper.name()));
    if (auto allowed = cut_off.require(); !allowed) {
        return Failure(allowed.error());
    }
    return demote(keeper, {cut_off.is_granted(), *dry_run, cause}).map_error([&](Error error) {
        return cut_off.explain(std::move(error));
    });
}

Result<Json> handle_demote_all(const Keepers& keepers, const Context& context,
                               const Json& request) {
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!disconnect || !dry_run) {
        return Failure(disconnect ? dry_run.error() : disconnect.error());
    }
    return demote_all(keepers, context, {*disconnect, *dry_run, "shutdown"});
}

Result<Json> handle_switch(VolumeKeeper& keeper, const Json& request, const Asking&) {
    const auto to = control::optional_string_field(request, "to");
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!to || !disconnect || !dry_run) {
        return Failure(!to ? to.error() : !disconnect ? disconnect.error() : dry_run.error());
    }
    return switch_roles(keeper, {to->value_or(""), *disconnect, *dry_run});
}

Result<Json> handle_resolve(VolumeKeeper& keeper, const Json& request, const Asking& asking) {
    const auto keep = control::string_field(request, "keep");
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    const auto no_undo = control::bool_field_or(request, "no_undo", false);
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    if (!keep || !dry_run || !no_undo || !disconnect) {
        return Failure(!keep      ? keep.error()
                       : !dry_run ? dry_run.error()
                       : !no_undo ? no_undo.error()
                                  : disconnect.error());
    }
    const std::string command =
        fmt::format("resolve {} --keep {}", keeper.name(), keep->substr(0, 64));
    if (*no_undo && !asking.is_local) {
        return refuse_over_network(
            fmt::format("{} gives up its data of {} without an undo file only for its own users",
                        keeper.node(), keeper.name()),
            keeper.config(), keeper.node(), command + " --no-undo", /*would_full_do=*/false);
    }
    const CutOff cut_off(keeper, asking, *disconnect, command);
    if (auto allowed = cut_off.require(); !allowed) {
        return Failure(allowed.error());
    }
    return resolve(keeper, {*keep, *dry_run, *no_undo, cut_off.is_granted(), asking.is_local})
        .map_error([&](Error error) { return cut_off.explain(std::move(error)); });
}

/// The engine does it in its own time, and does not know who asked.
void note_carried_out(VolumeKeeper& keeper, const Json& request, const Result<Json>& answer) {
    if (!answer || !answer->is_object() || keeper.place() != Place::active ||
        request.value("dry_run", false)) {
        return;
    }
    keeper.record(
        "verb-accepted", Severity::info,
        fmt::format("{} of {} was requested", request.value("request", ""), keeper.name()),
        answer->value("text", ""));
}

Result<Json> handle_active(VolumeKeeper& keeper, const Json& request, const Asking& asking) {
    auto answer = ask_active(keeper, request, asking.is_local);
    note_carried_out(keeper, request, answer);
    return answer;
}

Result<Json> handle_resize(VolumeKeeper& keeper, const Json& request, const Asking& asking) {
    return resize(keeper, request, asking.is_local);
}

Result<Json> handle_attach(VolumeKeeper& keeper, const Json& request, const Asking&) {
    return control::bool_field_or(request, "dry_run", false).and_then([&](bool dry_run) {
        return attach(keeper, dry_run);
    });
}

Result<Json> handle_detach(VolumeKeeper& keeper, const Json& request, const Asking&) {
    return control::bool_field_or(request, "dry_run", false).and_then([&](bool dry_run) {
        return detach(keeper, dry_run);
    });
}

Result<Json> handle_restart_engine(VolumeKeeper& keeper, const Json& request, const Asking&) {
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!disconnect || !dry_run) {
        return Failure(disconnect ? dry_run.error() : disconnect.error());
    }
    return restart_engine(keeper, {*disconnect, *dry_run});
}

Result<Json> handle_agree(VolumeKeeper& keeper, const Json& request, const Asking&) {
    const auto node = control::string_field(request, "node");
    const auto object = control::object_field(request, "summary");
    if (!node || !object) {
        return Failure(node ? object.error() : node.error());
    }
    const auto theirs = control::decode_summary(**object);
    if (!theirs) {
        return Failure(theirs.error());
    }
    return agree(keeper, *node, *theirs);
}

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

template <Result<Json> (*function)(VolumeKeeper&, const Json&)>
Result<Json> pass(VolumeKeeper& keeper, const Json& request, const Asking&) {
    return function(keeper, request);
}

/// Who carries out the requests about one volume; who may ask for them says daemon/audience.hpp.
constexpr std::array entries = {
    Entry{"create", handle_create},
    Entry{"promote", handle_promote},
    Entry{"demote", handle_demote},
    Entry{"switch", handle_switch},
    Entry{"connect", handle_active},
    Entry{"disconnect", handle_active},
    Entry{"resync", handle_active},
    Entry{"verify", handle_active},
    Entry{"attach", handle_attach},
    Entry{"detach", handle_detach},
    Entry{"restart-engine", handle_restart_engine},
    Entry{"handshake", pass<handshake>},
    Entry{"session-begin", session_begin},
    Entry{"session-proof", pass<session_proof>},
    Entry{"session-synced", pass<session_synced>},
    Entry{"session-step", pass<session_step>},
    Entry{"session-incomplete", pass<session_incomplete>},
    Entry{"session-end", pass<session_end>},
    Entry{"generation", pass<generation>},
    Entry{"verify-record", pass<verify_record>},
    Entry{"agree", handle_agree},
    Entry{"create-replica", create_replica},
    Entry{"resolve", handle_resolve},
    Entry{"resolve-agree", pass<resolve_agree>},
    Entry{"differing-regions", pass<answer_comparison>},
    Entry{"block-digests", pass<answer_comparison>},
    Entry{"undo-drop", pass<drop_undo>},
    Entry{"resize", handle_resize},
    Entry{"resize-replica", pass<resize_replica>},
};

/// A volume that was taken out of the configuration while it was in use can be ended, and nothing
/// else: the other node may not know it either.
Result<void> require_configured(const Rule& rule, const VolumeKeeper& keeper) {
    constexpr std::array<std::string_view, 7> endings{
        "demote", "detach", "disconnect", "attach", "restart-engine", "undo-drop", "session-proof"};
    if (keeper.is_configured() ||
        std::find(endings.begin(), endings.end(), rule.request) != endings.end()) {
        return {};
    }
    return Failure(
        Error{ErrorKind::refused,
              fmt::format("{} is not in the configuration of {}", keeper.name(), keeper.node()),
              fmt::format(
                  "put it back in the file, then mirrorctl reload; or end it: mirrorctl demote {}",
                  keeper.name()),
              /*os_error=*/0, Ground::state});
}

/// For somebody who asks on a node that has no part in the volume.
Error lives_elsewhere(const VolumeConfig& volume, const std::string& node) {
    std::vector<std::string> nodes;
    for (const auto& [name, path] : volume.backing) {
        nodes.push_back(name);
    }
    return {ErrorKind::not_found,
            fmt::format("volume {} has no replica on {}; it is mirrored between {}", volume.name,
                        node, fmt::join(nodes, " and ")),
            fmt::format("run mirrorctl on {}", fmt::join(nodes, " or "))};
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

const Entry* entry_of(std::string_view name) {
    const auto* found = std::find_if(entries.begin(), entries.end(),
                                     [&](const Entry& each) { return each.name == name; });
    return found == entries.end() ? nullptr : found;
}

/// What a node says of itself, where the request has a field for it; else nothing.
std::string claimed_node(const Rule& rule, const Json& request) {
    const auto field = request.find(rule.claim);
    return rule.claim.empty() || field == request.end() || !field->is_string()
               ? std::string()
               : field->get<std::string>().substr(0, 64);
}

std::optional<uid_t> claimed_user(const Json& request) {
    const auto uid = control::optional_uint_field(request, PeerWatch::asker_field);
    return uid && *uid && **uid <= std::numeric_limits<uid_t>::max()
               ? std::optional(static_cast<uid_t>(**uid))
               : std::nullopt;
}

/// For the events of what it asks for.
AskedBy asker_of(const nbd::Client& client, const Rule* rule, const Json& request) {
    if (client.address == "unix") {
        return {.kind = AskedBy::Kind::local, .uid = client.uid};
    }
    AskedBy who{.kind = AskedBy::Kind::node,
                .node = client.node,
                .is_proven = !client.node.empty(),
                .key = client.key,
                .address = client.address,
                .for_uid = claimed_user(request)};
    if (const std::string claimed = rule == nullptr ? "" : claimed_node(*rule, request);
        who.node.empty() && is_valid_name(claimed)) {
        who.node = claimed;
    }
    return who;
}

}  // namespace

Result<Json> Requests::handle(const Json& request, const nbd::Client& client) {
    const auto name = control::string_field(request, "request");
    if (!name) {
        return Failure(name.error());
    }
    // The JSON library throws on a value of another type than was checked: ours to answer for, but
    // not a reason to end the process.
    try {
        const AskedByScope scope(asker_of(client, rule_of(*name), request));
        Result<Json> answer = dispatch(*name, request, client);
        if (!answer && answer.error().ground == Ground::who) {
            refusals_.note(client, answer.error());
        }
        return answer;
    } catch (const std::exception& error) {
        log(LogLevel::error, "request {} from {}: {}", *name, client.address, error.what());
        return fail(ErrorKind::internal, "request {} failed: {}", *name, error.what());
    }
}

Result<Json> Requests::dispatch(const std::string& name, const Json& request,
                                const nbd::Client& client) {
    const Rule* rule = rule_of(name);
    if (rule == nullptr) {
        return fail(ErrorKind::invalid, "there is no request '{}'", name.substr(0, 60));
    }
    const Who who = who_is(client, context_.control_group);
    if (who == Who::other_user) {
        return refuse_user(client, context_.used());
    }
    if (!places_for(*rule, who).any()) {
        return refuse_asker(*rule, who, client);
    }
    return rule->has_volume ? ask_volume(*rule, request, client) : ask_node(*rule, request, client);
}

Result<Json> Requests::ask_node(const Rule& rule, const Json& request, const nbd::Client& client) {
    const std::string_view name = rule.request;
    if (name == "peer-status") {
        return require_protocol(request)
            .and_then([&] { return require_node(claimed_node(rule, request), client); })
            .and_then([&] { return peer_status(request, client); });
    }
    return name == "version"            ? Result<Json>(version())
           : name == "check"            ? Result<Json>(check(context_, peers_, keepers_))
           : name == "test-event-hooks" ? test_event_hooks(request)
           : name == "reload"           ? reload(request)
           : name == "demote-all"       ? handle_demote_all(keepers_, context_, request)
                                        : status(request);
}

Result<Json> Requests::reload(const Json& request) const {
    return reload_ ? reload_(request)
                   : fail(ErrorKind::internal, "nobody carries out the request reload");
}

Result<Json> Requests::ask_volume(const Rule& rule, const Json& request,
                                  const nbd::Client& client) {
    const auto volume = control::string_field(request, "volume");
    if (!volume) {
        return Failure(volume.error());
    }
    const auto found = keeper(*volume);
    if (!found) {
        return Failure(found.error());
    }
    VolumeKeeper& keeper = **found;
    const Who who = who_is(client, context_.control_group, keeper.peer());
    const Places places = places_for(rule, who);
    if (!places.any()) {
        return refuse_node(describe(client), keeper.config(), keeper.node());
    }
    // Root, too, speaks for the peer with these.
    if (const std::string claimed = claimed_node(rule, request);
        !claimed.empty() && claimed != keeper.peer()) {
        return refuse_node(claimed, keeper.config(), keeper.node());
    }
    if (const Place place = keeper.place(); !places.has(place)) {
        return refuse_place(places, place, keeper.config(), keeper.node());
    }
    if (auto allowed = require_configured(rule, keeper); !allowed) {
        return Failure(allowed.error());
    }
    const Asking asking{is_local(who), remote_verbs_of(context_.node, keeper.config()),
                        is_local(who) || !client.node.empty()};
    if (auto allowed = require_remote(rule, asking, keeper.config(), keeper.node()); !allowed) {
        return Failure(allowed.error());
    }
    const Entry* entry = entry_of(rule.request);
    if (entry == nullptr) {
        return fail(ErrorKind::internal, "nothing here carries out request {}", rule.request);
    }
    return entry->handler(keeper, request, asking);
}

Result<void> Requests::require_node(const std::string& claimed, const nbd::Client& client) const {
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

Result<VolumeKeeper*> Requests::keeper(const std::string& volume) const {
    const auto found = keepers_.find(volume);
    if (found != keepers_.end()) {
        return found->second;
    }
    for (const Unsupervised& engine : unsupervised(context_, keepers_)) {
        if (engine.process.volume == volume) {
            return Failure(Error{ErrorKind::not_found, engine.text, engine.remedy});
        }
    }
    const auto config = context_.used().volume(volume);
    return Failure(config ? lives_elsewhere(**config, context_.node.name) : config.error());
}

Json Requests::version() const {
    return {{"version", MIRROR_VERSION},
            {"protocol", control::protocol_version},
            {"node", context_.node.name}};
}

Result<Json> Requests::test_event_hooks(const Json& request) const {
    constexpr std::chrono::minutes patience{5};
    const auto volume = control::optional_string_field(request, "volume");
    if (!volume) {
        return Failure(volume.error());
    }
    if (*volume) {
        if (const auto found = keeper(**volume); !found) {
            return Failure(found.error());
        }
    }
    if (event_hooks_ == nullptr) {
        return fail(ErrorKind::internal, "events are handed to no program");
    }
    return event_hooks_->test(volume->value_or(""), patience);
}

Result<Json> Requests::status(const Json& request) const {
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
        const auto found = keeper(**volume);
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
Json Requests::nodes_seen(const std::set<std::string>& names, const Json& volumes) const {
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

Json Requests::unsupervised_engines() const {
    Json engines = Json::array();
    for (const Unsupervised& engine : unsupervised(context_, keepers_)) {
        engines.push_back({{"volume", engine.process.volume},
                           {"pid", engine.process.pid},
                           {"text", engine.text},
                           {"remedy", engine.remedy}});
    }
    return engines;
}

Result<Json> Requests::peer_status(const Json& request, const nbd::Client& client) const {
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

void Requests::add_to_peer_status(const std::string& name, bool is_now, Json& answer,
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
