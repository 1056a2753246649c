// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/peer.hpp"

#include <algorithm>
#include <utility>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "core/engine/peer_leg.hpp"

namespace mirror {
namespace {

using control::Json;
using std::chrono::milliseconds;

/// As much as a mailbox takes beside the request itself: more than a large write has under way on
/// any link that could carry a session.
constexpr std::size_t probe_bytes = 960 * KiB;

/// A connection that works may still be refused for a reason that only a person can change.
constexpr milliseconds retry_after_refusal{5000};

/// A bad sector may take a disk a minute, and seldom gets better by being asked again.
constexpr milliseconds first_reread{10000};
constexpr milliseconds longest_reread{15 * 60000};

}  // namespace

PeerAddress peer_address(const Config& config, const VolumeConfig& volume,
                         const std::string& node) {
    const std::string peer = volume.peer_of(node);
    const auto found = config.nodes.find(peer);
    PeerAddress address{.node = peer, .timeout = volume.peer_timeout};
    if (found != config.nodes.end()) {
        address.address.tcp = found->second.address;
        address.address.tls = tls::Credentials::of(config, node);
        address.address.node = peer;
    }
    return address;
}

Peer::Peer(Parts parts)
    : parts_(std::move(parts)),
      peer_node_(parts_.volume.peer_of(parts_.node)),
      jitter_(std::random_device{}()),
      steps_(parts_.meta),
      session_watch_({parts_.volume.name, peer_node_}, parts_.membership, parts_.events,
                     parts_.clock) {
    MutexLock lock(mutex_);
    way_ = {peer_address(parts_.config, parts_.volume, parts_.node),
            parts_.volume.shared_settings()};
    paused_ = parts_.meta.superblock().paused;
}

Peer::~Peer() {
    stop();
}

Result<void> Peer::start() {
    parts_.membership.on_session_over([this] {
        MutexLock lock(mutex_);
        if (resync_) {
            resync_->stop();
        }
        wake_.notify_all();
    });
    if (!end_wanted()) {
        parts_.membership.await_first_attempt(std::chrono::steady_clock::now() + timeout());
    }
    return session_watch_.start().and_then(
        [&] { return start_thread(thread_, "peer", [this] { run(); }); });
}

void Peer::stop() {
    {
        MutexLock lock(mutex_);
        stop_ = true;
        if (resync_) {
            resync_->stop();
        }
        wake_.notify_all();
    }
    if (thread_.joinable()) {
        thread_.join();
    }
    session_watch_.stop();  // last: it may hang with the disk of the file of keys
}

void Peer::run() {
    while (true) {
        wait_while_paused();
        {
            MutexLock lock(mutex_);
            if (stop_) {
                return;
            }
            if (is_resting()) {
                continue;
            }
            idle_ = false;
            hinted_ = false;
        }
        renews_ = false;
        const auto outcome = attempt();
        if (!renews_ || end_wanted()) {
            parts_.membership.first_attempt_over();
        }
        set_link("down");
        {
            MutexLock lock(mutex_);
            idle_ = true;
            wake_.notify_all();
        }
        if (!outcome) {
            report_failure(outcome.error());
        }
        if (!outcome && outcome.error().kind == ErrorKind::refused) {
            wait_before_retry(std::max(retry_after_refusal, retry_.wait()));
        } else if (retry_.wait().count() != 0) {
            wait_before_retry(retry_.wait());
        }
    }
}

Result<void> Peer::attempt() {
    set_link("connecting");
    const Way way = this->way();
    auto session = open_session(way);
    if (!session) {
        retry_.failed();
        return Failure(session.error());
    }
    const SteadyTime began = std::chrono::steady_clock::now();
    {
        MutexLock lock(mutex_);
        refusal_.clear();
        session_way_ = way.number;
        renewal_wanted_ = false;
    }
    // While the session was opened writes were answered alone, and somebody may want it ended:
    // install() looks at the differences, bring_up_to_date() at the wishes, conclude() at the rest.
    // Installed before it is watched: a loss from now on is reported to a membership that knows it.
    if (auto installed = parts_.membership.install(*session, (*session)->begun_with_resync());
        !installed) {
        retry_.failed();
        return installed;
    }
    (*session)->watch([this, raw = session->get()](const Error& error) {
        parts_.membership.session_lost(*raw, error);
    });
    set_link("connected");
    auto up_to_date = bring_up_to_date(*session);
    if (up_to_date) {
        hold(*session);
    }
    note_last_answer(**session);
    note_session_over(**session, began, up_to_date);
    if ((end_wanted() || (up_to_date && begins_renewal())) && !(*session)->is_lost()) {
        bool by_hand = false;
        {
            MutexLock lock(mutex_);
            by_hand = !renews_ && !stop_ && !suspended_;
        }
        end_session(*session, by_hand ? "disconnect" : "demote");
        return {};
    }
    (*session)->lose("the session has ended");
    parts_.membership.session_lost(
        **session,
        up_to_date ? Error{ErrorKind::unreachable, "the session has ended"} : up_to_date.error());
    report_break();
    if (const auto loss = (*session)->loss(); loss && loss->kind == ErrorKind::corrupt) {
        return Failure(*loss);  // what garbles one session garbles the next: not at once again
    }
    return up_to_date;
}

void Peer::note_session_over(Session& session, SteadyTime began, const Result<void>& outcome) {
    const auto loss = session.loss();
    const auto lived =
        std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - began);
    const auto ended_by = [&](ErrorKind kind) {
        return loss ? loss->kind == kind : !outcome && outcome.error().kind == kind;
    };
    const bool at_step = silent_at_step_.exchange(false);
    const bool silent = at_step || ended_by(ErrorKind::timed_out);
    const bool refused = !outcome && (outcome.error().kind == ErrorKind::no_space ||
                                      outcome.error().kind == ErrorKind::io);
    // What garbles one session garbles the next: as one that never came up.
    retry_.session_over(lived, outcome.has_value() && !ended_by(ErrorKind::corrupt), silent,
                        refused);
    if (silent && retry_.wants_probe()) {
        log(LogLevel::warning,
            "volume {}: a session with {} fell silent after {}; the next one begins in {} or "
            "later, once {} of data get through in time",
            parts_.volume.name, peer_node_, format_duration(lived), format_duration(retry_.wait()),
            format_size(probe_bytes));
    }
}

Result<std::shared_ptr<Session>> Peer::open_session(const Way& way) {
    auto control = PeerControl::connect(way.address);
    if (!control) {
        return Failure(control.error());
    }
    const auto decision = shake_hands(way, **control);
    if (!decision) {
        return Failure(decision.error());
    }
    if (!decision->replicates_to_peer()) {
        return fail(ErrorKind::refused, "{}", decision->reason);
    }
    if (decision->action == Action::full_to_peer) {
        if (auto marked = parts_.differences.suspect_all(); !marked) {
            return Failure(marked.error());
        }
    }
    const bool resync = !parts_.differences.empty();
    const auto step = steps_.offer(their_step_);
    if (!step) {
        return Failure(step.error());
    }
    begun_ = random_id<SessionId>();
    begun_step_ = *step;
    {
        // Before the peer hears of it, which asks mirrord here whether it is ours.
        MutexLock lock(mutex_);
        begun_for_others_ = begun_;
    }
    auto session = Session::begin(way.address, std::move(*control),
                                  {parts_.volume.name, parts_.node, begun_, resync, begun_step_});
    if (session) {
        // Before anything is taken off the maps: from then on they speak of this session alone.
        if (auto recorded = record_session(begun_, begun_step_); !recorded) {
            return Failure(recorded.error());
        }
        report("session-started", Severity::info,
               fmt::format("replication to {} started: {}", peer_node_, decision->reason));
    }
    return session;
}

Result<void> Peer::record_session(const SessionId& session, std::uint64_t step) {
    return steps_.taken(step, [&](Superblock& block) { block.session = session; });
}

Result<Decision> Peer::shake_hands(const Way& way, PeerControl& control) {
    ReplicaSummary ours = summarize(parts_.meta.superblock(), parts_.differences.intent_bytes(),
                                    parts_.differences.behind_bytes());
    ours.session_begun = begun_;
    Json request = {{"request", "handshake"},
                    {"volume", parts_.volume.name},
                    {"protocol", control::protocol_version},
                    {"settings", way.settings},
                    {"summary", control::encode(ours)}};
    const auto reply =
        retry_.wants_probe() ? ask_at_full_size(way, control, request) : control.ask(request);
    if (!reply) {
        return Failure(reply.error());
    }
    const auto theirs = control::object_field(*reply, "summary").and_then([](const Json* summary) {
        return control::decode_summary(*summary);
    });
    const auto their_action = control::string_field(*reply, "action");
    if (!theirs || !their_action) {
        return Failure((!theirs ? theirs.error() : their_action.error()).within(peer_node_));
    }
    // Both have looked at the lineage from before: they look again.
    const auto agreed = parts_.membership.adopt_offer(theirs->lineage);
    if (!agreed) {
        return Failure(agreed.error());
    }
    if (*agreed) {
        return shake_hands(way, control);
    }
    const Decision decision = decide(ours, *theirs);
    note_decision(decision, *theirs);
    if (to_string(mirrored(decision.action)) != *their_action) {
        report("handshake-disagreement", Severity::error,
               fmt::format("{} decides '{}' but this node decides '{}'; nothing is sent",
                           peer_node_, *their_action, to_string(decision.action)),
               decision.reason, "run the same version of mirrordisk on both nodes");
        return fail(ErrorKind::refused, "{} and {} disagree about what to do", parts_.node,
                    peer_node_);
    }
    if (theirs->session == begun_ && !begun_.is_none()) {
        // The answer to an earlier attempt was lost: a new attempt must not forget it.
        if (auto recorded = record_session(begun_, begun_step_); !recorded) {
            return Failure(recorded.error());
        }
    }
    their_step_ = theirs->steps.newest();
    if (decision.replicates_to_peer() && theirs->intent_bytes + theirs->changed_bytes != 0) {
        const auto regions = read_changes(way.address, parts_.volume.name, ours.size);
        if (!regions) {
            return Failure(regions.error());
        }
        if (auto merged = parts_.differences.suspect(*regions); !merged) {
            return Failure(merged.error());
        }
    }
    return decision;
}

/// No write waits for this, as it would for the first large one of a session.
Result<Json> Peer::ask_at_full_size(const Way& way, PeerControl& control, Json request) {
    request["padding"] = std::string(probe_bytes, ' ');
    const SteadyTime asked = std::chrono::steady_clock::now();
    auto reply = control.ask(request);
    const auto took =
        std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - asked);
    if (reply && took > way.address.timeout) {
        return Failure(Error{
            ErrorKind::timed_out,
            fmt::format("{}: sending {} and getting the reply takes longer than {}", peer_node_,
                        format_size(probe_bytes), format_duration(way.address.timeout)),
            "check the network between the nodes; sessions begin again when it is faster"});
    }
    return reply;
}

Result<void> Peer::bring_up_to_date(const std::shared_ptr<Session>& session) {
    milliseconds reread_delay = first_reread;
    std::optional<Differences::Lacking> left;  // by the resync before this one
    while (true) {
        auto resync = std::make_shared<Resync>(parts_.store, parts_.differences, parts_.ranges,
                                               parts_.clock, parts_.unreadable);
        const std::uint64_t total = resync->progress().total_bytes;
        {
            MutexLock lock(mutex_);
            resync_ = resync;
            if (stop_ || is_resting()) {
                resync->stop();
            }
        }
        if (total != 0 && !left) {
            report("resync-started", Severity::info,
                   fmt::format("{} to resync to {}: {} known to differ, {} to compare",
                               format_size(total), peer_node_,
                               format_size(parts_.differences.changed_bytes()),
                               format_size(parts_.differences.suspect_bytes())));
        }
        auto done = resync->run(*session);
        const Resync::Progress progress = resync->progress();
        {
            MutexLock lock(mutex_);
            resync_.reset();
            last_resync_ = progress;
        }
        if (!done) {
            if (total != 0) {
                report("resync-interrupted", Severity::warning,
                       fmt::format("{} of {} done; the rest remains to be resynced",
                                   format_size(progress.done_bytes), format_size(total)),
                       done.error().message);
            }
            return done;
        }
        if (resync->unreadable() && !parts_.differences.empty()) {
            if (auto told = leave_incomplete(session, *resync, reread_delay, left); !told) {
                return told;
            }
            if (!await_another_try(*session, reread_delay)) {
                return {};
            }
            reread_delay = std::min(reread_delay * 2, longest_reread);
            continue;
        }
        if (total != 0) {
            report("resync-done", Severity::info,
                   fmt::format("sent {} in {} blocks, {} as zeroes, compared {}",
                               format_size(progress.sent_bytes), progress.sent_blocks,
                               format_size(progress.zeroed_bytes),
                               format_size(progress.compared_bytes)));
        }
        done = parts_.membership.conclude(session);
        if (done) {
            report("in-sync", Severity::info,
                   fmt::format("{} and {} are equal; every write goes to both", parts_.node,
                               peer_node_));
            return {};
        }
        if (done.error().kind != ErrorKind::busy) {
            return done;
        }
    }
}

void Peer::hold(const std::shared_ptr<Session>& session) {
    while (true) {
        {
            MutexLock lock(mutex_);
            while (!stop_ && !is_resting() && !full_wanted_ && !renewal_wanted_ &&
                   !session->is_lost()) {
                wake_.wait(lock);
            }
            if (!full_wanted_ || stop_ || is_resting() || session->is_lost()) {
                return;
            }
            full_wanted_ = false;
        }
        if (!parts_.membership.reopen(session)) {
            continue;
        }
        if (!parts_.differences.suspect_all() || !bring_up_to_date(session)) {
            return;
        }
    }
}

void Peer::end_session(const std::shared_ptr<Session>& session, const std::string& reason) {
    const bool by_hand = reason == "disconnect";
    Result<void> told;
    {
        // No write may be on its way while both replicas are flushed and the intents are cleared:
        // so the next session has to look at nothing but what is written from now on.
        const auto everything = parts_.ranges.acquire({0, parts_.store.size()});
        told = checkpoint(IntentMap::Clear::all);
        // Before the standby is told: it shuts the links, which is not to count as a loss.
        parts_.membership.retire(
            session, by_hand ? fmt::format("{} was disconnected by mirrorctl", peer_node_)
                             : "the session was ended cleanly");
    }
    // The checkpoint may have found that the disk here fails: only now it is known whether the peer
    // goes on alone. A failure that could not be written down before gets one more chance.
    parts_.membership.record_local_failure();
    parts_.membership.confirm_to_peer(true);
    if (told) {
        told = session->tell_end(reason);
    }
    if (by_hand) {
        report("disconnected", Severity::warning,
               fmt::format("{} was disconnected by mirrorctl; writes continue on this node alone",
                           peer_node_),
               told ? ""
                    : fmt::format("{} could not be notified: {}", peer_node_, told.error().message),
               fmt::format("mirrorctl connect {}", parts_.volume.name));
    }
}

Result<void> Peer::checkpoint(IntentMap::Clear what) {
    if (!parts_.membership.uses_local()) {
        return flush_everybody();  // the maps of a replica that failed stand for nothing
    }
    bool flushed = false;
    auto done = parts_.differences.checkpoint(what, [&]() -> Result<void> {
        auto result = flush_everybody();
        flushed = result.has_value();
        return flushed ? settle_step(what) : result;
    });
    if (!done && flushed && parts_.membership.leave_out_local(done.error())) {
        return {};  // the metadata failed, and the peer goes on alone
    }
    return done;
}

/// After everything written so far is durable on both: what the maps forget now, a peer that has
/// taken this step has.
Result<void> Peer::settle_step(IntentMap::Clear what) {
    const auto session = parts_.membership.parties().session;
    if (!session) {
        return {};  // nothing is taken off the maps that the peer lacks
    }
    const auto raised = steps_.raise_for_checkpoint(*session, what);
    if (!raised.there) {
        silent_at_step_ = raised.there.error().kind == ErrorKind::timed_out;
        parts_.membership.peer_failed(session, {}, raised.there.error());
        return raised.there;
    }
    return raised.here;
}

Result<void> Peer::leave_quiet() {
    const Membership::Parties parties = parts_.membership.parties();
    // A session that begins meanwhile raises the step itself; without one there is a generation.
    if (!parties.session || !parties.local) {
        return {};
    }
    const auto raised = steps_.raise(*parties.session);
    if (!raised.there) {
        silent_at_step_ = raised.there.error().kind == ErrorKind::timed_out;
        parts_.membership.peer_failed(parties.session, {}, raised.there.error());
    }
    return raised.here;
}

Result<void> Peer::flush_everybody() {
    // A session that begins later than this is not flushed. Nor is a region that is written in it:
    // it was entered after the checkpoint began, and keeps its intent.
    const Membership::Parties parties = parts_.membership.parties();
    PeerLeg leg;
    if (parties.session) {
        parties.session->data().flush(leg.completion());
    }
    Result<void> local = parties.local ? parts_.store.flush() : Result<void>{};
    const Result<void> peer = parties.session ? leg.wait() : Result<void>{};
    if (parties.session && !peer) {
        // It answered writes that it can't make durable.
        parts_.membership.peer_failed(parties.session, {}, peer.error());
    } else if (parties.session && !local) {
        local = parts_.membership.leave_out_local(parties.session, local.error());
    }
    return local ? peer : local;
}

bool Peer::end_wanted() const {
    MutexLock lock(mutex_);
    return stop_ || is_resting();
}

void Peer::wait_before_retry(milliseconds delay) {
    // 75 % to 125 %: two nodes that fell at one moment must not knock in step for ever.
    const auto part = std::uniform_int_distribution<milliseconds::rep>(75, 125)(jitter_);
    const auto until = std::chrono::steady_clock::now() + delay * part / 100;
    MutexLock lock(mutex_);
    while (!stop_ && !is_resting() && !hinted_ &&
           wake_.wait_until(lock, until) != std::cv_status::timeout) {
    }
}

void Peer::wait_while_paused() {
    MutexLock lock(mutex_);
    while (is_resting() && !stop_) {
        wake_.wait(lock);
    }
}

}  // namespace mirror
