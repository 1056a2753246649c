// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/verbs.hpp"

#include <algorithm>
#include <array>

#include "core/base/json.hpp"
#include "core/control/messages.hpp"
#include "daemon/create.hpp"
#include "daemon/cut_off.hpp"
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

}  // namespace

VolumeHandler handler_of(std::string_view request) {
    const auto* found = std::find_if(entries.begin(), entries.end(),
                                     [&](const Entry& each) { return each.name == request; });
    return found == entries.end() ? nullptr : found->handler;
}

Result<Json> demote_all_as_asked(const Keepers& keepers, const Context& context,
                                 const Json& request) {
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!disconnect || !dry_run) {
        return Failure(disconnect ? dry_run.error() : disconnect.error());
    }
    return demote_all(keepers, context, {*disconnect, *dry_run, "shutdown"});
}

}  // namespace mirror::daemon
