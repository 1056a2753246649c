// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/requests.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <string_view>
#include <unistd.h>

#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "daemon/check.hpp"
#include "daemon/create.hpp"
#include "daemon/demote.hpp"
#include "daemon/demote_all.hpp"
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

namespace mirror::daemon {
namespace {

using VolumeHandler = Result<Json> (*)(VolumeKeeper&, const Json&, bool is_local);

enum class Audience { local, peer_or_local };

struct Entry {
    std::string_view name;
    Audience audience;
    VolumeHandler handler;
};

Result<Json> handle_create(VolumeKeeper& keeper, const Json& request, bool) {
    const auto overwrite = control::bool_field_or(request, "overwrite_peer", false);
    const auto local_only = control::bool_field_or(request, "local_only", false);
    const auto replace = control::bool_field_or(request, "replace", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    for (const auto* field : {&overwrite, &local_only, &replace, &dry_run}) {
        if (!field->has_value()) {
            return Failure(field->error());
        }
    }
    if (*replace && (*overwrite || *local_only)) {
        return fail(ErrorKind::invalid,
                    "--replace goes with neither --overwrite-peer nor --local-only");
    }
    if (*replace) {
        return replace_replica(keeper, *dry_run);
    }
    return create(keeper, {*overwrite, *local_only, *dry_run});
}

/// Why the role changes, in a word for the hooks: the verb, unless the request says "switch".
std::string cause_of(const Json& request, const char* verb) {
    const auto cause = control::optional_string_field(request, "cause");
    return cause && cause->value_or("") == "switch" ? "switch" : verb;
}

Result<Json> handle_promote(VolumeKeeper& keeper, const Json& request, bool is_local) {
    const auto force = control::bool_field_or(request, "force", false);
    const auto fenced = control::bool_field_or(request, "fenced", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    const auto after_demote = control::bool_field_or(request, "after_demote", false);
    for (const auto* field : {&force, &fenced, &dry_run, &after_demote}) {
        if (!field->has_value()) {
            return Failure(field->error());
        }
    }
    if ((*force || *fenced) && !is_local) {
        return fail(ErrorKind::refused, "a peer may not ask for a forced promotion");
    }
    // Without dry_run it would promote next to an active peer.
    return promote(keeper, {*force, *fenced, *dry_run, *after_demote && *dry_run,
                            cause_of(request, "promote")});
}

Result<Json> handle_demote(VolumeKeeper& keeper, const Json& request, bool) {
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!disconnect || !dry_run) {
        return Failure(disconnect ? dry_run.error() : disconnect.error());
    }
    return demote(keeper, {*disconnect, *dry_run, cause_of(request, "demote")});
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

Result<Json> handle_switch(VolumeKeeper& keeper, const Json& request, bool) {
    const auto to = control::optional_string_field(request, "to");
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!to || !disconnect || !dry_run) {
        return Failure(!to ? to.error() : !disconnect ? disconnect.error() : dry_run.error());
    }
    return switch_roles(keeper, {to->value_or(""), *disconnect, *dry_run});
}

Result<Json> handle_resolve(VolumeKeeper& keeper, const Json& request, bool is_local) {
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
    return resolve(keeper, {*keep, *dry_run, *no_undo, *disconnect, is_local});
}

Result<Json> handle_active(VolumeKeeper& keeper, const Json& request, bool is_local) {
    return ask_active(keeper, request, is_local);
}

Result<Json> handle_attach(VolumeKeeper& keeper, const Json& request, bool) {
    return control::bool_field_or(request, "dry_run", false).and_then([&](bool dry_run) {
        return attach(keeper, dry_run);
    });
}

Result<Json> handle_detach(VolumeKeeper& keeper, const Json& request, bool) {
    return control::bool_field_or(request, "dry_run", false).and_then([&](bool dry_run) {
        return detach(keeper, dry_run);
    });
}

Result<Json> handle_restart_engine(VolumeKeeper& keeper, const Json& request, bool) {
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!disconnect || !dry_run) {
        return Failure(disconnect ? dry_run.error() : disconnect.error());
    }
    return restart_engine(keeper, {*disconnect, *dry_run});
}

Result<Json> handle_agree(VolumeKeeper& keeper, const Json& request, bool) {
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
Result<Json> pass(VolumeKeeper& keeper, const Json& request, bool) {
    return function(keeper, request);
}

/// Requests about one volume.
constexpr std::array entries = {
    Entry{"create", Audience::local, handle_create},
    Entry{"promote", Audience::peer_or_local, handle_promote},
    Entry{"demote", Audience::peer_or_local, handle_demote},
    Entry{"switch", Audience::local, handle_switch},
    Entry{"connect", Audience::peer_or_local, handle_active},
    Entry{"disconnect", Audience::peer_or_local, handle_active},
    Entry{"resync", Audience::peer_or_local, handle_active},
    Entry{"verify", Audience::peer_or_local, handle_active},
    Entry{"attach", Audience::local, handle_attach},
    Entry{"detach", Audience::local, handle_detach},
    Entry{"restart-engine", Audience::local, handle_restart_engine},
    Entry{"handshake", Audience::peer_or_local, pass<handshake>},
    Entry{"session-begin", Audience::peer_or_local, pass<session_begin>},
    Entry{"session-synced", Audience::peer_or_local, pass<session_synced>},
    Entry{"session-incomplete", Audience::peer_or_local, pass<session_incomplete>},
    Entry{"session-end", Audience::peer_or_local, pass<session_end>},
    Entry{"generation", Audience::peer_or_local, pass<generation>},
    Entry{"verify-record", Audience::peer_or_local, pass<verify_record>},
    Entry{"agree", Audience::peer_or_local, handle_agree},
    Entry{"create-replica", Audience::peer_or_local, pass<create_replica>},
    Entry{"resolve", Audience::peer_or_local, handle_resolve},
    Entry{"resolve-agree", Audience::peer_or_local, pass<resolve_agree>},
    Entry{"differing-regions", Audience::peer_or_local, pass<answer_comparison>},
    Entry{"block-digests", Audience::peer_or_local, pass<answer_comparison>},
    Entry{"undo-drop", Audience::local, pass<drop_undo>},
    Entry{"resize", Audience::peer_or_local, resize},
    Entry{"resize-replica", Audience::peer_or_local, pass<resize_replica>},
};

/// Names are no secrets. Without a usable file: none.
Json key_names(const Context& context) {
    if (!context.tls || context.tls->mode() != TlsMode::psk) {
        return Json::array();
    }
    return context.tls->names().value_or(std::vector<std::string>{});
}

Failure only_local(std::string_view name) {
    return fail(ErrorKind::refused, "request {} is answered on mirrord's local socket only", name);
}

}  // namespace

bool is_local_admin(const nbd::Client& client) noexcept {
    return client.uid && (*client.uid == 0 || *client.uid == ::geteuid());
}

Result<Json> Requests::handle(const Json& request, const nbd::Client& client) {
    const auto name = control::string_field(request, "request");
    if (!name) {
        return Failure(name.error());
    }
    // The JSON library throws on a value of another type than was checked: ours to answer for, but
    // not a reason to end the process.
    try {
        return dispatch(*name, request, is_local_admin(client));
    } catch (const std::exception& error) {
        log(LogLevel::error, "request {} from {}: {}", *name, client.address, error.what());
        return fail(ErrorKind::internal, "request {} failed: {}", *name, error.what());
    }
}

Result<Json> Requests::dispatch(const std::string& name, const Json& request, bool is_local) {
    if (name == "peer-status") {
        return require_protocol(request).map([&] { return peer_status(); });
    }
    if (name == "version" || name == "status" || name == "check" || name == "demote-all") {
        if (!is_local) {
            return only_local(name);
        }
        return name == "version"      ? Result<Json>(version())
               : name == "check"      ? Result<Json>(check(context_, peers_, keepers_))
               : name == "demote-all" ? handle_demote_all(keepers_, context_, request)
                                      : status(request);
    }
    const auto* entry = std::find_if(entries.begin(), entries.end(),
                                     [&](const Entry& each) { return each.name == name; });
    if (entry == entries.end()) {
        return fail(ErrorKind::invalid, "there is no request '{}'", name.substr(0, 60));
    }
    if (entry->audience == Audience::local && !is_local) {
        return only_local(name);
    }
    const auto volume = control::string_field(request, "volume");
    if (!volume) {
        return Failure(volume.error());
    }
    const auto found = keeper(*volume);
    if (!found) {
        return Failure(found.error());
    }
    return entry->handler(**found, request, is_local);
}

Result<VolumeKeeper*> Requests::keeper(const std::string& volume) const {
    const auto found = keepers_.find(volume);
    if (found != keepers_.end()) {
        return found->second.get();
    }
    if (const auto config = context_.config.volume(volume); !config) {
        return Failure(config.error());
    }
    return fail(ErrorKind::not_found, "volume {} has no replica on {}", volume, context_.node.name);
}

Json Requests::version() const {
    return {{"version", MIRROR_VERSION},
            {"protocol", control::protocol_version},
            {"node", context_.node.name}};
}

Result<Json> Requests::status(const Json& request) const {
    const auto volume = control::optional_string_field(request, "volume");
    if (!volume) {
        return Failure(volume.error());
    }
    Json volumes = Json::array();
    if (*volume) {
        const auto found = keeper(**volume);
        if (!found) {
            return Failure(found.error());
        }
        volumes.push_back((*found)->status());
    } else {
        for (const auto& [name, each] : keepers_) {
            volumes.push_back(each->status());
        }
    }
    return Json{{"schema", 1}, {"node", context_.node.name}, {"volumes", std::move(volumes)}};
}

Json Requests::peer_status() const {
    Json settings = Json::object();
    for (const auto& [name, volume] : context_.config.volumes) {
        settings[name] = volume.shared_settings();
    }
    Json volumes = Json::object();
    for (const auto& [name, each] : keepers_) {
        if (Json entry = each->peer_status(); !entry.is_null()) {
            volumes[name] = std::move(entry);
        }
    }
    return {{"node", context_.node.name},
            {"version", MIRROR_VERSION},
            {"protocol", control::protocol_version},
            {"time", control::encode(context_.clock.wall_now())},
            {"keys", key_names(context_)},
            {"settings", std::move(settings)},
            {"volumes", std::move(volumes)}};
}

}  // namespace mirror::daemon
