// SPDX-License-Identifier: BSD-3-Clause
// VolumeKeeper: what it shows to people and peers, and what it learns from the peer.
#include "core/base/json.hpp"
#include "core/control/media_json.hpp"
#include "core/control/messages.hpp"
#include "core/control/metadata_json.hpp"
#include "core/engine/verify_record.hpp"
#include "core/lineage/handshake.hpp"
#include "core/lineage/relation.hpp"
#include "core/meta/transitions.hpp"
#include "daemon/evidence.hpp"
#include "daemon/next_step.hpp"
#include "daemon/rto.hpp"
#include "daemon/state_space.hpp"
#include "daemon/volume_keeper.hpp"
#include "daemon/volume_steps.hpp"

namespace mirror::daemon {
namespace {

std::optional<ReplicaSummary> summary_of_engine(const Json& status) {
    const auto found = status.find("summary");
    if (found == status.end()) {
        return std::nullopt;
    }
    auto summary = control::decode_summary(*found);
    return summary ? std::optional(std::move(*summary)) : std::nullopt;
}

/// For looks that nobody waits for: with the time between two of them less than peer_timeout and a
/// second, for which a sign of life counts.
std::chrono::milliseconds usual_age(const VolumeConfig& volume) {
    return std::clamp<std::chrono::milliseconds>(volume.peer_timeout / 2, EngineClient::memory,
                                                 std::chrono::milliseconds(2500));
}

/// A comparison that was never made, or whose record is damaged, reads as "never".
Json kept_verify(const NodeConfig& node, const std::string& volume, WallTime now) {
    const auto record = load_verify_record(verify_record_path(node.state_dir, volume));
    return verify_status(record && *record ? **record : VerifyRecord{}, now, std::nullopt);
}

}  // namespace

VolumeFacts VolumeKeeper::facts() {
    return facts(peers_.view(peer()));
}

VolumeFacts VolumeKeeper::facts(PeerView peer_view, std::chrono::milliseconds engine_age) {
    VolumeFacts facts;
    facts.config = &config();
    facts.node = node();
    facts.peer = std::move(peer_view);
    facts.now = context_.clock.wall_now();
    facts.steady_now = context_.clock.steady_now();
    facts.rto = read_rto(lives().node, name());
    if (!config().device.empty()) {
        facts.device_state = devices_.state(config().device);
    }
    facts.last_write = last_write_of(backing_path());
    // Each look is of its own moment, since none may wait for another: what is decided by these
    // facts is looked at again where it is carried out.
    bool ask_engine = false;
    pid_t engine_pid = 0;
    {
        MutexLock lock(mutex_);
        facts.place = place_;
        facts.failure = failure_;
        facts.advice = failure_.empty() ? std::string() : advice_;
        facts.fault = place_ == Place::failed ? fault_ : std::string();
        facts.operation = operation_;
        facts.waits_for_peer = waits_for_peer_;
        facts.is_starting = restarts_soon_ && death_noted_ &&
                            (place_ == Place::active || operation_ == restart_name);
        facts.summary = last_summary_;
        ask_engine = place_ == Place::active && engine_ && engine_->is_running();
        engine_pid = ask_engine ? engine_->pid() : 0;
    }
    if (facts.place == Place::absent || facts.place == Place::failed) {
        facts.summary.reset();
    }
    if (const auto lease = replica()) {
        facts.place = Place::standby;
        facts.block = (*lease)->superblock();
        facts.summary = (*lease)->summary();
        facts.session = (*lease)->session();
        facts.media = control::encode((*lease)->media());
        facts.metadata = control::encode_health((*lease)->metadata());
    }
    if (facts.summary && facts.place == Place::active) {
        facts.summary->role = Role::active;
    }
    facts.verify = kept_verify(lives().node, name(), facts.now);
    if (!ask_engine) {
        return facts;
    }
    auto status = client_.status(engine_age);
    if (!status || !status->is_object()) {
        if (MutexLock lock(mutex_); !engine_ || !engine_->is_running()) {
            facts.is_starting = true;  // it died just now, which the supervisor notes in a moment
            return facts;
        }
        facts.failure = status ? "the engine's answer is not an object" : status.error().message;
        facts.advice = fmt::format(
            "if that lasts, end the engine (process {}): mirrord starts it again at once",
            engine_pid);
        return facts;
    }
    if (auto summary = summary_of_engine(*status)) {
        facts.summary = *summary;
        MutexLock lock(mutex_);
        last_summary_ = std::move(summary);
    }
    facts.engine = std::move(*status);
    return facts;
}

Result<ReplicaSummary> VolumeKeeper::summary() {
    if (const auto lease = replica_now()) {
        return (*lease)->summary();
    } else if (place() != Place::active) {
        return Failure(lease.error());
    }
    VolumeFacts seen = facts();
    if (!seen.summary) {
        return fail(ErrorKind::unreachable, "{}", judge_state(seen).why);
    }
    return std::move(*seen.summary);
}

std::pair<StateWord, WallTime> VolumeKeeper::state(const VolumeFacts& facts) {
    StateWord state = judge_state(facts);
    bool newly_diverged = false;
    WallTime since;
    {
        MutexLock lock(mutex_);
        if (word_ != state.word) {
            // While active, the engine tells it.
            newly_diverged = state.word == "diverged" && facts.place == Place::standby;
            word_ = state.word;
            word_since_ = facts.now;
        }
        since = word_since_;
    }
    if (newly_diverged) {
        record("diverged", Severity::error,
               fmt::format("{} and {} have diverged on {}", node(), peer(), name()), state.why,
               fmt::format("mirrorctl resolve {} --keep NODE", name()));
    }
    return {std::move(state), since};
}

/// What holds for the node comes first: an overview of all volumes shows that alone.
Json VolumeKeeper::warnings(const VolumeFacts& seen, const Json& metadata) const {
    Json list = Json::array();
    const auto add = [&](const std::string& words) {
        if (!words.empty()) {
            list.push_back(words);
        }
    };
    add(context_.used().tls.mode == TlsMode::off ? std::string(not_encrypted) : std::string());
    if (context_.tls) {
        if (const auto names = context_.tls->names(); !names) {
            add(fmt::format("no new connection can be accepted or made: {}", names.error().text()));
        }
    }
    add(state_space_warning(lives().node, state_space(lives().node.state_dir)));
    add(settings_words(seen));
    const PeerVolume* theirs = seen.peer.volume(name());
    add(theirs != nullptr ? theirs->settings_words : std::string());
    for (const std::string& words : config_drift(context_)) {
        add(words);
    }
    if (metadata.is_object() && !metadata.value("reserved", true)) {
        add(fmt::format("the metadata of {} on {} have no space reserved, so a write may fail: {}",
                        name(), node(), metadata.value("why", "")));
    }
    return list;
}

Json VolumeKeeper::status() {
    client_.forget_status();  // a person or a script asks after the state of now
    const VolumeFacts seen = facts(peers_.view_now(peer()));
    const auto [word, since] = state(seen);
    Json status = volume_status(seen, word, since);
    status["settings_pending"] =
        says_its_settings(seen) ? encode_pending(pending(seen)) : Json();  // null: not known
    status["warnings"] = warnings(seen, status["replica"]["metadata"]);
    status["mounted_on"] = mounted_on(config());
    status["undo"] = undo_entries(lives().node.state_dir, name());
    return status;
}

Json VolumeKeeper::peer_status(bool is_now) {
    const VolumeFacts seen =
        facts(peers_.view(peer()), is_now ? EngineClient::memory : usual_age(config()));
    if (!seen.summary) {
        return {};
    }
    const auto [word, since] = state(seen);
    const Json full = volume_status(seen, word, since);
    const auto behind = behind_bytes(seen);
    return {{"summary", control::encode(*seen.summary)},
            {"role", to_string(seen.summary->role)},
            {"state", word.word},
            {"why", word.why},
            {"advice", next_step(seen, word)},
            {"behind_bytes", behind ? Json(*behind) : Json()},
            {"engine_running", engine_is_running()},
            {"last_write_at", control::encode(seen.last_write)},
            {"settings_words", settings_words(seen)},
            {"resync", full["peers"][0]["resync"]}};
}

void VolumeKeeper::on_peer(const PeerView& view, PeerWatch::Change change) {
    if (change == PeerWatch::Change::appeared && place() == Place::active) {
        // Only a hint: an engine that does not answer finds out by itself.
        (void)client_.ask({{"request", "peer-hint"}}, std::chrono::seconds(1));
    }
    if (const PeerVolume* theirs = view.volume(name())) {
        learn_from_peer(*theirs);
        if (waits_for_peer()) {
            wake();
        }
    }
    const VolumeFacts seen = facts(peers_.view(peer()), usual_age(config()));
    (void)state(seen);
    renew_session(seen, view);
}

void VolumeKeeper::learn_from_peer(const PeerVolume& theirs) {
    const auto lease = replica();
    if (!lease || theirs.role != Role::active) {
        return;
    }
    const auto session = (*lease)->session();
    const ReplicaSummary ours = (*lease)->summary();
    const bool gone_on = relate(ours, theirs.summary) == Relation::behind;
    if (!gone_on || ours.state != ReplicaState::up_to_date ||
        ours.volume != theirs.summary.volume || (session && session->connections > 0)) {
        return;
    }
    const WallTime break_at = theirs.summary.break_at;
    // A session may have begun since, and ended its resync: become_stale() looks at the lineage
    // again.
    auto recorded =
        (*lease)->update([&](Superblock& block) { become_stale(block, ours.lineage, break_at); });
    record("stale", Severity::warning,
           fmt::format("the replica of {} on {} is stale: {} continued without it", name(), node(),
                       peer()),
           recorded ? "it has begun a generation that is not here" : recorded.error().message);
}

}  // namespace mirror::daemon
