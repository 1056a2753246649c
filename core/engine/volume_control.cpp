// SPDX-License-Identifier: BSD-3-Clause
// What mirrord asks of a running engine, and the engine's housekeeping.
#include <chrono>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/comparison_requests.hpp"
#include "core/control/media_json.hpp"
#include "core/control/messages.hpp"
#include "core/control/metadata_json.hpp"
#include "core/control/tls_json.hpp"
#include "core/engine/hang_up.hpp"
#include "core/engine/volume.hpp"
#include "core/meta/backing_record.hpp"
#include "core/meta/transitions.hpp"

namespace mirror {
namespace {

using control::Json;
using std::chrono::milliseconds;

/// How often the housekeeper looks, and how many such looks are between two checkpoints, of which
/// an intent that is left alone sees two at most. The time alone clears nothing: a checkpoint
/// flushes both replicas first.
constexpr milliseconds house_period{1000};
/// For the connections of clients that have just ended, on a busy machine.
constexpr milliseconds closing_patience{2000};
constexpr int periods_between_checkpoints = 5;
/// How often it looks while there is nothing to do: what is written meanwhile is due then.
constexpr milliseconds quiet_period = house_period * periods_between_checkpoints;
/// More regions under intent than this would make the comparison after a crash long.
constexpr std::uint64_t intents_worth_a_checkpoint = 1 * GiB;

Json time_or_null(WallTime time) {
    return time == WallTime{} ? Json() : Json(format_rfc3339(time));
}

Json progress_json(const std::optional<Resync::Progress>& progress) {
    if (!progress) {
        return nullptr;
    }
    return {{"done_bytes", progress->done_bytes},
            {"total_bytes", progress->total_bytes},
            {"bytes_per_second", progress->bytes_per_second},
            {"eta_seconds", progress->eta_seconds ? Json(*progress->eta_seconds) : Json()},
            {"sent_bytes", progress->sent_bytes},
            {"sent_blocks", progress->sent_blocks},
            {"zeroed_bytes", progress->zeroed_bytes},
            {"compared_bytes", progress->compared_bytes}};
}

Json incomplete_json(const std::optional<Peer::Incomplete>& incomplete) {
    if (!incomplete) {
        return nullptr;
    }
    Json ranges = Json::array();
    for (const ByteRange& range : incomplete->lacking.ranges) {
        ranges.push_back({{"offset_bytes", range.offset}, {"length_bytes", range.length}});
    }
    return {{"bytes", incomplete->bytes},
            {"ranges", ranges},
            {"unlisted_ranges", incomplete->lacking.unlisted},
            {"cause", incomplete->cause},
            {"next_try_at", format_rfc3339(incomplete->next_try)}};
}

/// What a person can act on comes first.
std::string reason_of(const Membership::View& members, const Peer::View& peer,
                      const std::string& peer_node) {
    if (peer.incomplete) {
        return peer.incomplete->text;
    }
    if (members.mode != MirrorMode::alone || members.failed) {
        return members.why;
    }
    if (!peer.split_brain.empty()) {
        return peer.split_brain;
    }
    if (peer.paused) {
        return fmt::format("{} was disconnected by mirrorctl", peer_node);
    }
    return peer.refusal.empty() ? members.why : peer.refusal;
}

}  // namespace

Result<Json> Volume::handle(const Json& request) {
    const auto what = control::string_field(request, "request");
    if (!what) {
        return Failure(what.error());
    }
    const auto text = [](Result<std::string> done) {
        return done.map([](const std::string& words) { return Json{{"text", words}}; });
    };
    if (*what == "status") {
        return status();
    }
    if (*what == "peer-hint") {
        peer_.hint();
        return Json::object();
    }
    if (*what == "connect") {
        return text(peer_.connect());
    }
    if (*what == "disconnect") {
        return text(peer_.disconnect());
    }
    if (*what == "judge") {
        const std::string verb = request.value("verb", "");
        const auto may = verb == "resync"    ? peer_.may_resync()
                         : verb == "connect" ? peer_.require_no_split_brain()
                                             : Result<void>{};
        return may ? Result<Json>(Json::object()) : Failure(may.error());
    }
    if (*what == "resync") {
        return text(peer_.resync(request.value("full", false)));
    }
    if (*what == "verify") {
        auto done = verify_.handle(request);
        const auto possible = peer_.require_no_split_brain();
        return done || possible ? std::move(done) : Failure(possible.error());
    }
    if (*what == "settings") {
        return take_settings(request);
    }
    if (*what == "renew-session") {
        peer_.renew();
        return Json::object();
    }
    if (*what == "hang-up") {
        const pid_t asker = request.value("asker", 0);
        hang_up_clients(express_socket(), asker);
        hang_up_clients(socket(), asker);
        return Json::object();
    }
    if (*what == "quiesce") {
        return quiesce(request.value("disconnect_clients", false));
    }
    if (*what == "hold") {
        return hold(request);
    }
    if (*what == "let-go") {
        let_go();
        return Json::object();
    }
    if (*what == "differing-regions" || *what == "block-digests") {
        return compare(request);
    }
    return fail(ErrorKind::invalid, "the engine knows no request '{}'", *what);
}

Result<Json> Volume::compare(const Json& request) {
    const auto left_out = [this] {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("the replica of {} on {} is left out: it can't be compared "
                              "with",
                              name(), node_),
                  fmt::format("mirrorctl status {}", name())});
    };
    if (!membership_.uses_local()) {
        return left_out();
    }
    auto answer = request.value("request", "") == "block-digests"
                      ? control::answer_block_digests(request, *store_)
                      : control::answer_differing_regions(request, differences_->regions());
    // Its disk may have failed while it was read: what is written since then is on the peer alone.
    if (!membership_.uses_local()) {
        return left_out();
    }
    return answer;
}

std::string Volume::why() const {
    const Membership::View members = membership_.view();
    const SteadyTime silent_since =
        patience_ && !members.local_failed ? patience_->silent_since() : SteadyTime{};
    if (silent_since != SteadyTime{}) {
        const auto silent_for = std::chrono::duration_cast<milliseconds>(
            std::chrono::steady_clock::now() - silent_since);
        return fmt::format(
            "the disk of {} has not responded for {}; waiting for it is the only safe choice, "
            "because {} lacks data or can't be reached ({})",
            node_, format_duration(silent_for), settings_.peer_of(node_), members.why);
    }
    std::string reason = reason_of(members, peer_.view(), settings_.peer_of(node_));
    if (members.holds_writes) {
        reason +=
            fmt::format("; writes wait for {} (on_peer_loss = \"stop\")", settings_.peer_of(node_));
    }
    return reason;
}

Json Volume::status() const {
    const Membership::View members = membership_.view();
    const Peer::View peer = peer_.view();
    Superblock block = meta_->superblock();
    block.lineage = membership_.lineage();
    if (members.local_failed) {
        block.state = ReplicaState::failed;  // whether or not that could be written down
        block.last_active = false;
    }
    const ReplicaSummary summary =
        summarize(block, differences_->intent_bytes() + differences_->suspect_bytes(),
                  differences_->changed_bytes());
    const std::uint64_t behind = differences_->behind_bytes();
    const bool in_sync = members.mode == MirrorMode::in_sync;
    const bool at_risk = !in_sync && (members.wrote_alone || peer.incomplete);
    const auto broken_for =
        clock_.wall_now() - (members.break_at == WallTime{} ? members.since : members.break_at);
    return {
        {"summary", control::encode(summary)},
        {"mode", to_string(members.mode)},
        {"why", why()},
        {"failed", members.failed},
        {"holds_writes", members.holds_writes},
        {"beginning", members.is_beginning},
        {"since", format_rfc3339(members.since)},
        {"local_failed", members.local_failed},
        {"fault", members.fault ? Json(to_string(*members.fault)) : Json()},
        {"metadata", control::encode_health(*meta_)},
        {"clients", clients_.count()},
        {"settings", settings_view()},
        {"express",
         {{"quick_requests", quick_requests_.load()},
          {"pooled_requests", pooled_requests_.load()}}},
        {"media_errors", media_.total()},
        {"media", control::encode(media_.view())},
        {"rpo_seconds",
         at_risk ? std::chrono::duration_cast<std::chrono::seconds>(broken_for).count() : 0},
        {"rpo_bytes", at_risk ? behind : 0},
        {"peer",
         {{"node", settings_.peer_of(node_)},
          {"link", peer.link},
          {"session_outdated", peer.is_outdated},
          {"session_begun", to_string(peer.session_begun)},
          {"tls", control::encode(peer.tls, peer.tls_fault)},
          {"paused", peer.paused},
          {"role", members.mode == MirrorMode::alone ? "unknown" : "standby"},
          {"action", peer.action ? Json(to_string(*peer.action)) : Json()},
          {"replica_state",
           peer.replica_state ? Json(to_string(*peer.replica_state)) : Json("unknown")},
          {"behind_bytes", in_sync ? 0 : behind},
          {"last_seen", peer.last_seen ? Json(format_rfc3339(*peer.last_seen)) : Json()},
          {"break_at", time_or_null(members.break_at)},
          {"resync", progress_json(peer.resync)},
          {"last_resync", progress_json(peer.last_resync)},
          {"incomplete", incomplete_json(peer.incomplete)},
          {"verify", verify_.view()}}},
    };
}

Result<Json> Volume::quiesce(bool disconnect_clients) {
    const int clients = disconnect_clients ? 0 : clients_.wait_none(closing_patience);
    if (clients != 0) {
        return Failure(Error{ErrorKind::busy,
                             fmt::format("volume {} is in use on {} by {} client connection{}",
                                         name(), node_, clients, clients == 1 ? "" : "s"),
                             "unmount it and stop the programs that use it, or add "
                             "--disconnect-clients: they get I/O errors"});
    }
    gate_.close();
    membership_.shut_down();
    // Only now: it may wait for the range of a write that waited for the peer.
    verify_.stop();
    gate_.wait_until_empty();
    peer_.stop();
    auto settled = checkpoint();
    membership_.record_local_failure();  // where no session was left to end
    if (settled) {
        const auto sealed = store_->seal();
        settled = meta_->update([&](Superblock& block) {
            end_serving(block, clock_.wall_now());
            close_backing(block, sealed.value_or(0));
        });
    }
    // A replica that was left out has nothing to make durable; the peer has it all.
    if (!settled && membership_.uses_local()) {
        return Failure(settled.error());
    }
    return Json{
        {"summary", control::encode(summarize(meta_->superblock(), differences_->intent_bytes(),
                                              differences_->changed_bytes()))}};
}

/// What must outlive the engine and need not be written at once.
void Volume::keep_records() {
    meta_->reserve();
    membership_.record_local_failure();
    membership_.confirm_to_peer(false);
    const std::uint64_t errors = media_.total();
    if (errors != recorded_errors_) {
        auto recorded = meta_->update([&](Superblock& block) { block.media_errors = errors; });
        recorded_errors_ = recorded ? errors : recorded_errors_;
    }
}

bool Volume::is_quiet() const {
    return differences_->settled() && membership_.uses_local() && !meta_->unreserved() &&
           media_.total() == recorded_errors_;
}

void Volume::wake_housekeeper() {
    MutexLock lock(house_mutex_);
    house_hurry_ = true;
    house_wake_.notify_all();
}

/// What the mutex is needed for is looked at with it; whoever wakes the housekeeper may have the
/// application's write in hand, and is not to wait for anybody's disk.
void Volume::keep_house() {
    int periods = 0;
    MutexLock lock(house_mutex_);
    while (!house_closed_) {
        lock.unlock();
        const bool quiet = is_quiet();
        lock.lock();
        const bool hurry = std::exchange(house_hurry_, false);
        const milliseconds period = quiet && !hurry && !held_until_ ? quiet_period : house_period;
        if (house_closed_) {
            return;
        }
        if (house_wake_.wait_for(lock, period) != std::cv_status::timeout) {
            continue;  // there is something: how long to sleep is another question now
        }
        periods += static_cast<int>(period / house_period);
        lock.unlock();
        keep_records();
        end_old_hold();
        const bool many = differences_->intent_bytes() >= intents_worth_a_checkpoint;
        const bool settled = differences_->settled();
        lock.lock();
        const bool due = many || periods >= periods_between_checkpoints;
        if (house_closed_ || !due || settled) {
            continue;
        }
        periods = 0;
        lock.unlock();
        // What is written again and again is not to wait for its intent each time.
        const auto what = many ? IntentMap::Clear::all : IntentMap::Clear::at_rest;
        if (auto done = checkpoint(what); !done) {
            log(LogLevel::warning, "volume {}: the write-intent marks are kept: {}", name(),
                done.error().message);
        }
        lock.lock();
    }
}

}  // namespace mirror
