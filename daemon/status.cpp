// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/status.hpp"

#include "core/base/json.hpp"
#include "core/control/tls_json.hpp"
#include "core/lineage/handshake.hpp"
#include "core/lineage/relation.hpp"
#include "daemon/evidence.hpp"
#include "daemon/json_member.hpp"
#include "daemon/next_step.hpp"

namespace mirror::daemon {
namespace {

std::string text_or(const Json& value, std::string otherwise) {
    return value.is_string() ? value.get<std::string>() : std::move(otherwise);
}

Json time_or_null(WallTime time) {
    return time == WallTime{} ? Json() : Json(format_rfc3339(time));
}

bool has_session(const VolumeFacts& facts) {
    return facts.session && facts.session->connections > 0;
}

/// How long the active of the session has asked for nothing. An idle one sends a heartbeat several
/// times within peer_timeout; the kernel holds the connections of one that lost its power much
/// longer.
std::chrono::milliseconds silence_of_session(const VolumeFacts& facts) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(facts.steady_now -
                                                                 facts.session->last_request);
}

bool is_silent(const VolumeFacts& facts) {
    return silence_of_session(facts) > facts.config->peer_timeout;
}

/// Its active is heard: whatever its mirrord says, or does not.
bool has_live_session(const VolumeFacts& facts) {
    return has_session(facts) && !is_silent(facts);
}

std::string peer_name(const VolumeFacts& facts) {
    return facts.config->peer_of(facts.node);
}

/// Where it is not known what failed, nobody is sent to a disk that may be healthy.
std::string look_at_events(const std::string& volume) {
    return fmt::format("the reason is in: mirrorctl events {}", volume);
}

/// A peer that answers, and has nothing that could be used.
std::optional<NoReplica> peer_without_replica(const VolumeFacts& facts) {
    return facts.peer.reachable && facts.peer.answer &&
                   facts.peer.volume(facts.config->name) == nullptr
               ? std::optional(why_no_replica(*facts.peer.answer, facts.config->name))
               : std::nullopt;
}

/// What ends a break, where the reason says more than the word; else nothing.
std::string advice_when_alone(const VolumeFacts& facts, const std::string& why) {
    const std::string& name = facts.config->name;
    const std::string peer = peer_name(facts);
    if (member(member(facts.engine, "peer"), "paused") == true) {
        return fmt::format("mirrorctl connect {}", name);
    }
    if (is_out_of_space(why)) {
        return fmt::format(
            "make space on {} for the backing of {}; the resync then starts automatically", peer,
            name);
    }
    if (member(facts.engine, "holds_writes") == true) {
        return fmt::format(
            "bring {} or the link to it back (mirrorctl check shows which). To let {} write alone: "
            "set on_peer_loss = \"continue\" in [volume.{}] on both nodes and restart mirrord",
            peer, facts.node, name);
    }
    return {};
}

StateWord judge_active(const VolumeFacts& facts) {
    const std::string& name = facts.config->name;
    if (facts.engine.is_null()) {
        return {"failed",
                facts.failure.empty() ? fmt::format("the engine of {} does not answer", name)
                                      : facts.failure,
                facts.advice.empty() ? look_at_events(name) : facts.advice};
    }
    const std::string mode = text_or(member(facts.engine, "mode"), "");
    const std::string why =
        text_or(member(facts.engine, "why"), fmt::format("the engine of {} gave no reason", name));
    const bool cannot_serve = member(facts.engine, "failed") == true;
    if (cannot_serve || (facts.summary && facts.summary->state == ReplicaState::failed)) {
        return {"failed", why};
    }
    if (mode == "in-sync" || mode == "syncing") {
        return {mode == "in-sync" ? "in-sync" : "resyncing", why};
    }
    if (mode == "incomplete") {
        return {"broken", why};
    }
    if (member(facts.engine, "beginning") == true) {
        return {"starting", fmt::format("{} has begun to serve {}, and is connecting to {}",
                                        facts.node, name, peer_name(facts))};
    }
    const PeerVolume* peer = facts.peer.volume(name);
    if (peer != nullptr && facts.summary) {
        const Decision decision = decide(*facts.summary, peer->summary);
        return decision.action == Action::diverged
                   ? StateWord{"diverged", decision.reason}
                   : StateWord{"broken", why, advice_when_alone(facts, why)};
    }
    if (const auto none = peer_without_replica(facts)) {
        return {"broken", fmt::format("{}; {}", why, none->reason), none->remedy};
    }
    const bool is_diverged =
        text_or(member(member(facts.engine, "peer"), "action"), "") == to_string(Action::diverged);
    return is_diverged ? StateWord{"diverged", why}
                       : StateWord{"broken", why, advice_when_alone(facts, why)};
}

/// How long the disk here has owed an answer, when that is long; else nothing.
std::string disk_silence(const VolumeFacts& facts) {
    const SteadyTime since = facts.session ? facts.session->disk_busy_since : SteadyTime{};
    const auto silent_for = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - since);
    return since == SteadyTime{} || silent_for < facts.config->peer_timeout / 2
               ? std::string()
               : fmt::format("; the disk of {} has not responded for {}", facts.node,
                             format_duration(silent_for));
}

StateWord judge_in_session(const VolumeFacts& facts) {
    const std::string& source = facts.session->source;
    if (is_silent(facts)) {
        return {"peer-unknown",
                fmt::format("{} has been silent for {}; whether it continues without {}, and what "
                            "it has written since, is not known here",
                            source, format_duration(silence_of_session(facts)), facts.node)};
    }
    if (!facts.session->incomplete.empty()) {
        return {"broken", facts.session->incomplete + disk_silence(facts)};
    }
    if (facts.session->resyncing || facts.summary->state != ReplicaState::up_to_date) {
        return {"resyncing", fmt::format("{} is being brought up to date by {}{}", facts.node,
                                         source, disk_silence(facts))};
    }
    return {"in-sync", fmt::format("{} receives every write of {}", facts.node, source)};
}

StateWord judge_two_standbys(const VolumeFacts& facts, const PeerVolume& peer,
                             const Decision& decision) {
    const ReplicaSummary& ours = *facts.summary;
    const ReplicaSummary& theirs = peer.summary;
    const bool equal = relate(ours, theirs) == Relation::equal &&
                       ours.state == ReplicaState::up_to_date &&
                       theirs.state == ReplicaState::up_to_date && !ours.unclean && !theirs.unclean;
    const std::string promote = fmt::format("mirrorctl promote {}", facts.config->name);
    if (equal) {
        return {"in-sync", "both replicas are equal, and neither node is active: nothing is served",
                fmt::format("{}, here or on {}", promote, peer_name(facts))};
    }
    return {"broken", fmt::format("neither node is active: nothing is served; {}", decision.reason),
            step_when_nobody_is_active(facts, theirs)};
}

StateWord judge_standby(const VolumeFacts& facts) {
    const std::string& name = facts.config->name;
    if (!facts.summary) {
        return {"failed", fmt::format("the replica of {} on {} is not open", name, facts.node)};
    }
    if (facts.summary->state == ReplicaState::failed) {
        return {"failed", fmt::format("the disk under the replica of {} has failed", facts.node)};
    }
    const PeerVolume* peer = facts.peer.volume(name);
    const std::string peer_node = peer_name(facts);
    if (has_session(facts)) {
        return judge_in_session(facts);
    }
    const std::string goes_on =
        facts.waits_for_peer ? fmt::format(
                                   "; {} was active on {} when mirrord ended, and resumes when {} "
                                   "confirms that it did not take over (or: mirrorctl promote {})",
                                   name, facts.node, peer_node, name)
                             : std::string();
    if (!facts.peer.reachable) {
        return {"peer-unknown",
                (facts.peer.error.empty() ? fmt::format("{} has not been reached yet", peer_node)
                                          : facts.peer.error) +
                    goes_on};
    }
    if (peer == nullptr) {
        const auto none = peer_without_replica(facts);
        return {"broken",
                (none ? none->reason : fmt::format("{} has not replied yet", peer_node)) + goes_on,
                none ? none->remedy : std::string()};
    }
    const Decision decision = decide(*facts.summary, peer->summary);
    if (decision.action == Action::diverged) {
        return {"diverged", decision.reason};
    }
    if (decision.action == Action::unrelated) {
        return {"broken", decision.reason};
    }
    if (decision.action == Action::nobody_active) {
        return judge_two_standbys(facts, *peer, decision);
    }
    if (peer->role == Role::active && !peer->engine_running) {
        return {"broken", fmt::format("{} is active, but its engine does not run", peer_node),
                fmt::format("nothing, if that lasts for a moment only; on {}: mirrorctl status {}",
                            peer_node, name)};
    }
    if (peer->role == Role::active && !peer->why.empty()) {
        return {"broken",
                fmt::format("{} is active and does not mirror to {}; it says: {}", peer_node,
                            facts.node, peer->why),
                step_on(peer_node, peer->advice)};
    }
    return {"broken",
            fmt::format("{} is not connected to {}: {}", peer_node, facts.node, decision.reason)};
}

Json own_replica(const VolumeFacts& facts) {
    const auto backing = facts.config->backing.find(facts.node);
    Json errors;
    if (const Json& counted = member(facts.engine, "media_errors"); counted.is_number_unsigned()) {
        errors = counted;
    } else if (facts.block) {
        errors = facts.block->media_errors;
    }
    std::string state = "unknown";
    // What an engine said before it fell silent is no knowledge of now.
    const bool is_engine_silent = facts.place == Place::active && facts.engine.is_null();
    if (facts.summary && !is_engine_silent) {
        state = to_string(facts.summary->state);
    } else if (facts.place == Place::absent) {
        state = "new";
    } else if (facts.place == Place::failed) {
        state = "failed";
    }
    return {
        {"state", state},
        {"backing", backing == facts.config->backing.end() ? Json() : Json(backing->second)},
        {"fault", facts.engine.is_null() ? (facts.fault.empty() ? Json() : Json(facts.fault))
                                         : member(facts.engine, "fault")},
        {"metadata", facts.engine.is_null() ? facts.metadata : member(facts.engine, "metadata")},
        {"media_errors", errors},
        {"media", facts.engine.is_null() ? facts.media : member(facts.engine, "media")}};
}

Json link_word(const VolumeFacts& facts) {
    if (facts.place == Place::active && facts.engine.is_null()) {
        return {};  // it alone knows
    }
    if (has_live_session(facts)) {
        return "connected";
    }
    return facts.peer.reachable && !has_session(facts) ? "connecting" : "down";
}

/// A node that is heard in a session is active; of one that says nothing no role is known.
std::string peer_role(const VolumeFacts& facts) {
    if (has_live_session(facts) && facts.session->source == peer_name(facts)) {
        return std::string(to_string(Role::active));
    }
    const PeerVolume* peer = facts.peer.volume(facts.config->name);
    return peer == nullptr ? "unknown" : std::string(to_string(peer->role));
}

/// The peer as its standby or from afar sees it; the active's engine knows more.
Json peer_from_watch(const VolumeFacts& facts, const StateWord& state) {
    const PeerVolume* peer = facts.peer.volume(facts.config->name);
    const bool in_sync = state.word == "in-sync";
    Json entry = {{"node", peer_name(facts)},
                  {"link", link_word(facts)},
                  {"tls", facts.peer.reachable ? control::encode(facts.peer.tls) : Json()},
                  {"role", peer_role(facts)},
                  {"replica_state",
                   peer == nullptr ? "unknown" : std::string(to_string(peer->summary.state))},
                  {"behind_bytes", in_sync ? Json(0) : Json()},
                  {"last_seen", time_or_null(facts.peer.last_seen)},
                  {"break_at", Json()},
                  {"resync", peer == nullptr ? Json() : peer->resync},
                  {"verify", facts.verify},
                  {"incomplete", Json()}};
    if (!in_sync && peer != nullptr) {
        entry["break_at"] = time_or_null(peer->summary.break_at);
    }
    return entry;
}

Json peer_from_engine(const VolumeFacts& facts, const StateWord& state) {
    Json entry = peer_from_watch(facts, state);
    const Json& seen = member(facts.engine, "peer");
    entry["behind_bytes"] = member(seen, "behind_bytes");
    // What the engine saw of a peer that it has lost since is no knowledge of now; mirrord may ask.
    const bool is_alone = member(facts.engine, "mode") == "alone";
    if (!is_alone) {
        entry["replica_state"] = member(seen, "replica_state");
    }
    for (const char* field : {"link", "role", "last_seen"}) {
        const Json& value = member(seen, field);
        if (!value.is_null() && value != "unknown") {
            entry[field] = value;
        }
    }
    for (const char* field :
         {"break_at", "resync", "action", "last_resync", "verify", "incomplete", "tls"}) {
        entry[field] = member(seen, field);
    }
    return entry;
}

/// An active alone: its standby's mirrord answers now, and has a replica that takes over whole.
bool peer_is_seen(const VolumeFacts& facts) {
    const PeerVolume* peer = facts.peer.volume(facts.config->name);
    return peer != nullptr && peer->summary.state == ReplicaState::up_to_date && facts.summary &&
           relate(*facts.summary, peer->summary) == Relation::equal;
}

/// What would be lost if the active were lost now.
Json data_at_risk(const VolumeFacts& facts, const StateWord& state) {
    if (!facts.engine.is_null()) {
        // That nothing was written alone tells nothing of a standby that gives no sign of life.
        const bool is_known = member(facts.engine, "mode") != "alone" ||
                              member(facts.engine, "rpo_bytes") != 0 || peer_is_seen(facts) ||
                              member(member(facts.engine, "peer"), "link") == "connected";
        return {{"seconds", is_known ? member(facts.engine, "rpo_seconds") : Json()},
                {"bytes", is_known ? member(facts.engine, "rpo_bytes") : Json()}};
    }
    if (state.word == "in-sync") {
        return {{"seconds", 0}, {"bytes", 0}};
    }
    Json risk = {{"seconds", Json()}, {"bytes", Json()}};
    const PeerVolume* peer = facts.peer.volume(facts.config->name);
    if (facts.place == Place::standby && peer != nullptr && peer->role == Role::active) {
        if (peer->summary.break_at != WallTime{}) {
            const auto age = facts.now - peer->summary.break_at;
            risk["seconds"] = std::max(0.0, std::chrono::duration<double>(age).count());
        }
        if (peer->behind_bytes) {
            risk["bytes"] = *peer->behind_bytes;
        }
    }
    return risk;
}

StateWord judge_place(const VolumeFacts& facts) {
    const std::string& name = facts.config->name;
    if (facts.is_starting && facts.place != Place::failed) {
        return {"starting",
                facts.failure.empty()
                    ? fmt::format("the engine of {} on {} is being started again", name, facts.node)
                    : facts.failure,
                facts.advice};
    }
    switch (facts.place) {
        case Place::absent:
            return {"new", fmt::format("{} has not been created on {} yet", name, facts.node)};
        case Place::failed:
            return {"failed", facts.failure,
                    facts.advice.empty() ? look_at_events(name) : facts.advice};
        case Place::active:
            return judge_active(facts);
        case Place::standby:
            return judge_standby(facts);
        case Place::changing:
            break;
    }
    return {"broken",
            fmt::format("{} is in progress on {}",
                        facts.operation.empty() ? "a change" : facts.operation, facts.node)};
}

/// A resize that was cut short is told as long as it is; else nothing.
std::string half_resized(const VolumeFacts& facts) {
    const PeerVolume* peer = facts.peer.volume(facts.config->name);
    if (!facts.summary || peer == nullptr || facts.summary->volume != peer->summary.volume ||
        facts.summary->size == peer->summary.size) {
        return {};
    }
    return fmt::format("; {} has {} and {} has {}: mirrorctl resize {} finishes that", facts.node,
                       format_size(facts.summary->size), peer_name(facts),
                       format_size(peer->summary.size), facts.config->name);
}

}  // namespace

StateWord judge_state(const VolumeFacts& facts) {
    StateWord state = judge_place(facts);
    state.why += half_resized(facts);
    return state;
}

std::uint64_t unrepaired_bytes(const VolumeFacts& facts) {
    const Json& seen = member(member(facts.engine, "peer"), "verify");
    const Json& bytes = member(seen.is_object() ? seen : facts.verify, "unrepaired_bytes");
    return bytes.is_number_unsigned() ? bytes.get<std::uint64_t>() : 0;
}

std::optional<std::uint64_t> behind_bytes(const VolumeFacts& facts) {
    const Json& value = member(member(facts.engine, "peer"), "behind_bytes");
    return value.is_number_unsigned() ? std::optional(value.get<std::uint64_t>()) : std::nullopt;
}

Json volume_status(const VolumeFacts& facts, const StateWord& state, WallTime since) {
    const VolumeConfig& config = *facts.config;
    Json size;
    if (facts.summary) {
        size = facts.summary->size;
    } else if (config.size) {
        size = *config.size;
    }
    Json generation;
    if (facts.summary && !facts.summary->lineage.empty()) {
        generation = to_string(facts.summary->lineage.current());
    }
    Json peer =
        facts.engine.is_null() ? peer_from_watch(facts, state) : peer_from_engine(facts, state);
    if (Json evidence = split_brain_evidence(facts, state); !evidence.is_null()) {
        peer["split_brain"] = std::move(evidence);
    }
    const Json engine_since = facts.engine.is_null() ? Json() : member(facts.engine, "since");
    return {{"name", config.name},
            {"role", facts.place == Place::active ? "active" : "standby"},
            {"state", state.word},
            {"since", engine_since.is_string() ? engine_since : time_or_null(since)},
            {"why", state.why},
            {"next", next_step(facts, state)},
            {"advice", state.advice},
            {"mode", config.mode == Mode::sync ? "sync" : "async"},
            {"holds_writes", member(facts.engine, "holds_writes")},
            {"size_bytes", size},
            {"generation", generation},
            {"device", config.device.empty() ? Json() : Json(config.device)},
            {"device_state", facts.device_state.empty() ? Json() : Json(facts.device_state)},
            {"replica", own_replica(facts)},
            {"peers", Json::array({std::move(peer)})},
            {"rpo", data_at_risk(facts, state)},
            {"rto", facts.rto}};
}

}  // namespace mirror::daemon
