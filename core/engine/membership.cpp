// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/membership.hpp"

#include <utility>

#include "core/meta/transitions.hpp"

namespace mirror {
namespace {

/// How long acknowledgements wait for the record of a failure when the disk hangs, which may be the
/// one that the record goes to. A disk that works takes a hundredth of it.
constexpr std::chrono::milliseconds record_patience{250};

}  // namespace

std::string_view to_string(MirrorMode mode) noexcept {
    switch (mode) {
        case MirrorMode::alone:
            return "alone";
        case MirrorMode::syncing:
            return "syncing";
        case MirrorMode::incomplete:
            return "incomplete";
        case MirrorMode::in_sync:
            return "in-sync";
    }
    return "alone";
}

std::string_view to_string(FailedPart fault) noexcept {
    return fault == FailedPart::metadata ? "metadata" : "backing";
}

Membership::Membership(Options options, MetaFile& meta, Differences& differences, EventLog& events,
                       const Clock& clock)
    : options_(std::move(options)),
      meta_(meta),
      differences_(differences),
      events_(events),
      clock_(clock),
      stops_(options_.on_peer_loss == OnPeerLoss::stop) {
    const Superblock block = meta.superblock();
    // Writes of a former run that the peer lacks have their own generation. Those of this run get
    // another one: what we know may be an older state, from before the peer took part again in that
    // generation.
    wrote_alone_ = block.solo;
    break_at_ = block.break_at;
    since_ = clock.wall_now();
    why_ =
        fmt::format("{} has not been reached since {} became active", options_.peer, options_.node);
}

void Membership::await_first_attempt(SteadyTime deadline) {
    MutexLock lock(mutex_);
    first_attempt_until_ = deadline;
}

void Membership::first_attempt_over() {
    MutexLock lock(mutex_);
    first_attempt_until_.reset();
    changed_.notify_all();
}

void Membership::wait_for_first_attempt(MutexLock& lock) {
    while (!session_ && !shut_down_ && first_attempt_until_) {
        if (changed_.wait_until(lock, *first_attempt_until_) == std::cv_status::timeout) {
            first_attempt_until_.reset();
        }
    }
}

Result<Membership::Parties> Membership::parties_of_write(ByteRange range) {
    MutexLock lock(mutex_);
    // Who takes part is looked at after both waits, and the range's changed bits are set under the
    // same lock: what happens later finds them, or the write's intent (suspect_intents).
    wait_for_first_attempt(lock);
    while (!shut_down_ && ((!session_ && stops_without_peer()) || is_failure_being_recorded())) {
        changed_.wait(lock);
    }
    if (shut_down_) {
        return fail(ErrorKind::refused, "volume {} is being demoted", options_.volume);
    }
    if (!session_) {
        if (local_failed_) {
            return no_replica_left();
        }
        differences_.mark_changed(range);
    }
    return Parties{session_, !local_failed_, mode_};
}

std::optional<Membership::Parties> Membership::parties_at_once(ByteRange range) {
    MutexLock lock(mutex_);
    if (shut_down_ || local_failed_) {
        return std::nullopt;
    }
    if (!session_) {
        if (stops_without_peer() || first_attempt_until_ || !alone_recorded_ || recording_ ||
            leaving_out_local_) {
            return std::nullopt;
        }
        differences_.mark_changed(range);
    }
    return Parties{session_, true, mode_};
}

bool Membership::alone_is_recorded() const {
    MutexLock lock(mutex_);
    return mode_ == MirrorMode::in_sync ||
           (alone_recorded_ && !recording_ && !local_failed_ && !leaving_out_local_);
}

Failure Membership::no_replica_left() const {
    return Failure(Error{
        ErrorKind::io,
        fmt::format("volume {}: the disk of {} failed and {} cannot be reached: no replica can "
                    "serve it",
                    options_.volume, options_.node, options_.peer),
        fmt::format("make {} reachable, or promote it there", options_.peer)});
}

Membership::Parties Membership::parties() const {
    MutexLock lock(mutex_);
    return {session_, !local_failed_, mode_};
}

Membership::Parties Membership::parties_of_flush() {
    MutexLock lock(mutex_);
    while (is_failure_being_recorded()) {
        changed_.wait(lock);
    }
    return {session_, !local_failed_, mode_};
}

Result<void> Membership::record_alone() {
    MutexLock lock(mutex_);
    // While the peer is asked to go on alone it may have agreed: what is answered here then would
    // be missing there, where nobody would know.
    while (recording_ || leaving_out_local_) {
        changed_.wait(lock);
    }
    // A flush that failed on the peer may get here late: what it was to make durable was flushed
    // there when the next session got in sync.
    if (mode_ == MirrorMode::in_sync) {
        return {};
    }
    // The peer was told that it alone has everything: what is only here counts for nothing.
    if (local_failed_) {
        return no_replica_left();
    }
    wrote_alone_ = true;
    if (alone_recorded_) {
        return {};
    }
    recording_ = true;
    const WallTime now = clock_.wall_now();
    const WallTime break_at = break_at_ == WallTime{} ? now : break_at_;
    const std::optional<Lineage> offer = offer_;
    lock.unlock();
    // Meanwhile a session may come and go; none gets in sync before this is done (conclude()).
    auto recorded = meta_.update([&](Superblock& block) {
        if (offer) {
            take_offer(block, *offer);
        }
        go_alone(block, random_id<GenerationId>(), now, break_at, options_.node);
    });
    lock.lock();
    recording_ = false;
    if (recorded) {
        offer_.reset();
    }
    alone_recorded_ = recorded.has_value();
    cannot_record_ = recorded ? std::string() : recorded.error().message;
    changed_.notify_all();
    return recorded;
}

void Membership::peer_failed(const std::shared_ptr<Session>& session, ByteRange range,
                             const Error& error) {
    // A later session cannot have finished its resync meanwhile: the range had its intent before
    // it met this session, so it became suspect when the session ended, and the caller still holds
    // the range lock that a resync of it must take.
    differences_.mark_changed(range);
    if (!session->is_lost()) {
        session->lose(error.message);
    }
    session_lost(*session, error);
}

bool Membership::peer_has(ByteRange range) const {
    return mode_ == MirrorMode::in_sync ||
           (mode_ == MirrorMode::incomplete && !differences_.overlaps(range));
}

Result<void> Membership::wait_for_peer(ByteRange range) {
    MutexLock lock(mutex_);
    while (!peer_has(range) && !shut_down_ && stops_without_peer()) {
        changed_.wait(lock);
    }
    if (!peer_has(range) && !shut_down_) {
        lock.unlock();
        return record_alone();  // looks anew at who takes part
    }
    if (!peer_has(range)) {
        return fail(ErrorKind::refused, "volume {} was demoted while a write waited for {}",
                    options_.volume, options_.peer);
    }
    return {};
}

void Membership::take(OnPeerLoss on_peer_loss) {
    MutexLock lock(mutex_);
    stops_ = on_peer_loss == OnPeerLoss::stop;
    changed_.notify_all();
}

Result<void> Membership::leave_out_local(const std::shared_ptr<Session>& session,
                                         const Error& error, FailedPart fault) {
    return ask_to_go_on_alone(session, error, fault, Until::recorded);
}

Result<void> Membership::ask_to_go_on_alone(const std::shared_ptr<Session>& session,
                                            const Error& error, FailedPart fault, Until until) {
    MutexLock lock(mutex_);
    while (leaving_out_local_ && !(local_failed_ && until == Until::agreed)) {
        changed_.wait(lock);
    }
    if (local_failed_) {
        return {};
    }
    // Only a peer that has everything can go on alone.
    if (!is_in_sync_with(session)) {
        return Failure(error);
    }
    leaving_out_local_ = true;
    // The same as last time, if the answer to that was lost.
    Lineage lineage = offer_.value_or(Lineage{});
    lock.unlock();

    if (lineage.empty()) {
        lineage = meta_.superblock().lineage;
        // From no step: it may be raised until the peer agrees, and whatever was acknowledged here
        // under one the peer has, too.
        lineage.begin(random_id<GenerationId>(), clock_.wall_now(), options_.node,
                      GenerationReason::local_disk_failed);
    }
    lock.lock();
    // Meanwhile the session may have ended and another one got in sync, which has not been asked:
    // an offer that nobody gets must not be kept in mind.
    if (!is_in_sync_with(session)) {
        leaving_out_local_ = false;
        changed_.notify_all();
        return Failure(error);
    }
    offer_ = lineage;
    lock.unlock();
    const auto told = session->tell_generation(lineage, false);

    lock.lock();
    // The session may have ended meanwhile. Then an agreement binds nobody: the peer was not told
    // that it may go on without asking, and what is answered here from now on descends from what it
    // agreed to.
    const bool agreed = told && is_in_sync_with(session);
    if (agreed) {
        local_failed_ = true;
        local_out_ = true;
        fault_ = fault;
        unrecorded_failure_ = error;
        unconfirmed_ = session;
        peer_lineage_ = lineage;
        why_ = fault == FailedPart::metadata
                   ? fmt::format("the metadata of the replica on {} can't be written: {}",
                                 options_.node, error.message)
                   : fmt::format("the replica on {} failed: {}", options_.node, error.message);
        since_ = clock_.wall_now();
        changed_.notify_all();
        lock.unlock();
        have_failure_recorded(error);
        lock.lock();
    }
    leaving_out_local_ = false;
    changed_.notify_all();
    return agreed ? Result<void>{} : Failure(error);
}

void Membership::have_failure_recorded(const Error& error) {
    const bool hangs = error.kind == ErrorKind::timed_out;
    if (!hangs) {
        record_local_failure();
    }
    if (local_out_told_) {
        local_out_told_(!hangs);
    }
    const SteadyTime deadline = std::chrono::steady_clock::now() + record_patience;
    MutexLock lock(mutex_);
    while (hangs && !failure_recorded_ && !shut_down_ &&
           changed_.wait_until(lock, deadline) != std::cv_status::timeout) {
    }
}

Result<void> Membership::leave_out_local(const Error& error, FailedPart fault) {
    std::shared_ptr<Session> session;
    {
        MutexLock lock(mutex_);
        if (local_failed_) {
            return {};
        }
        session = session_;
    }
    return session ? ask_to_go_on_alone(session, error, fault, Until::agreed) : Failure(error);
}

void Membership::record_local_failure() {
    Error error;
    FailedPart fault = FailedPart::backing;
    bool is_news = false;
    {
        MutexLock lock(mutex_);
        // Whoever goes on to tell the peer must not overtake the one who writes it down.
        while (recording_failure_) {
            changed_.wait(lock);
        }
        if (!unrecorded_failure_) {
            return;
        }
        recording_failure_ = true;
        error = *std::exchange(unrecorded_failure_, std::nullopt);
        fault = fault_;
        is_news = !std::exchange(failure_reported_, true);
    }
    // Meanwhile the session may end, which changes nothing: the local replica is out for good. What
    // cannot be written here is known to the peer: its generation is ahead of ours.
    const auto recorded = meta_.update([](Superblock& block) {
        block.state = ReplicaState::failed;
        block.last_active = false;  // the peer has it: it alone has everything
    });
    {
        MutexLock lock(mutex_);
        recording_failure_ = false;
        changed_.notify_all();
        failure_recorded_ = recorded.has_value();
        if (!recorded) {
            unrecorded_failure_ = error;
        }
    }
    if (is_news) {
        report_local_failure(error, fault);
    }
}

void Membership::report_local_failure(const Error& error, FailedPart fault) {
    const bool is_backing = fault == FailedPart::backing;
    events_.record(
        {.id = "local-disk-failed",
         .severity = Severity::error,
         .volume = options_.volume,
         .text =
             fmt::format("{} on {} {}; the volume continues from the copy of {}",
                         is_backing ? "the replica" : "the metadata of the replica", options_.node,
                         is_backing ? "failed" : "can't be written", options_.peer),
         .cause = error.message,
         .remedy =
             is_backing
                 ? fmt::format("mirrorctl switch {} --to {}, repair the disk of {}, then "
                               "there mirrorctl create {} --replace",
                               options_.volume, options_.peer, options_.node, options_.volume)
                 : fmt::format(
                       "make that file writable again (the backing is not at fault), then "
                       "mirrorctl switch {} --to {}: {} is then compared as a whole and resynced",
                       options_.volume, options_.peer, options_.node)});
}

Result<void> Membership::install(std::shared_ptr<Session> session, bool resync) {
    MutexLock lock(mutex_);
    if (!resync && !differences_.empty()) {
        return fail(ErrorKind::busy, "a write was completed without {} while its session began",
                    options_.peer);
    }
    session_ = std::move(session);
    mode_ = MirrorMode::syncing;
    why_ = fmt::format("{} is being brought up to date", options_.peer);
    since_ = clock_.wall_now();
    changed_.notify_all();
    return {};
}

Result<void> Membership::conclude(const std::shared_ptr<Session>& session) {
    Superblock block;
    {
        MutexLock lock(mutex_);
        while (recording_) {
            changed_.wait(lock);
        }
        if (session_ != session || session->is_lost()) {
            return fail(ErrorKind::unreachable, "the session with {} was lost", options_.peer);
        }
        if (!differences_.empty()) {
            return fail(ErrorKind::busy, "new differences appeared at the end of the resync");
        }
        // From here on going alone needs a new generation, since the standby is about to adopt
        // this one; that must be durable before it does. While it is written, and while the standby
        // is told, the session may end and writes go on alone: both are looked for after that.
        recording_ = true;
        alone_recorded_ = false;
        cannot_record_.clear();
        lock.unlock();
        auto recorded = meta_.update([](Superblock& current) { current.solo = false; });
        block = meta_.superblock();
        lock.lock();
        recording_ = false;
        changed_.notify_all();
        if (!recorded) {
            return recorded;
        }
    }
    if (auto told = session->tell_synced(block.lineage, block.steps.taken); !told) {
        return told;
    }
    const WallTime now = clock_.wall_now();
    {
        MutexLock lock(mutex_);
        if (session_ != session || session->is_lost()) {
            return fail(ErrorKind::unreachable, "the session with {} was lost", options_.peer);
        }
        if (alone_recorded_) {
            return fail(ErrorKind::busy, "a new generation began at the end of the resync");
        }
        mode_ = MirrorMode::in_sync;
        offer_.reset();  // the peer has our lineage in its place
        break_at_ = {};
        wrote_alone_ = false;
        why_ = fmt::format("every write goes to {} and {}", options_.node, options_.peer);
        since_ = now;
        changed_.notify_all();
    }
    // Whoever hears of it looks for himself: the session may be over again.
    if (in_sync_) {
        in_sync_();
    }
    return meta_.update([&](Superblock& current) {
        if (!current.solo) {
            current.break_at = {};
        }
        current.synced_at = now;
    });
}

Result<void> Membership::leave_incomplete(const std::shared_ptr<Session>& session) {
    MutexLock lock(mutex_);
    if (session_ != session || session->is_lost()) {
        return fail(ErrorKind::unreachable, "the session with {} was lost", options_.peer);
    }
    if (mode_ != MirrorMode::incomplete) {
        mode_ = MirrorMode::incomplete;
        why_ = fmt::format("{} lacks what the disk of {} can't read", options_.peer, options_.node);
        since_ = clock_.wall_now();
    }
    changed_.notify_all();
    return {};
}

bool Membership::is_in_sync_with(const std::shared_ptr<Session>& session) const {
    return session_ == session && mode_ == MirrorMode::in_sync && !session->is_lost();
}

void Membership::confirm_to_peer(bool serving_ends) {
    std::shared_ptr<Session> session;
    Lineage lineage;
    {
        MutexLock lock(mutex_);
        session = unconfirmed_.lock();
        if (!session || !peer_lineage_ || !(failure_recorded_ || serving_ends)) {
            return;
        }
        lineage = *peer_lineage_;
    }
    // The session may end meanwhile; that the local replica failed is for good, so nobody sets
    // another session here.
    const auto told = session->tell_generation(lineage, true);
    MutexLock lock(mutex_);
    // Once the session is over it can't be told; whoever promotes it then has to say so.
    if (told || session->is_lost()) {
        unconfirmed_.reset();
    }
}

Result<bool> Membership::adopt_offer(const Lineage& theirs) {
    Lineage offer;
    {
        MutexLock lock(mutex_);
        if (!offer_ || local_failed_) {
            return false;
        }
        if (!theirs.contains(offer_->current())) {
            return false;  // not yet: a disk that hangs there may take it until the next session
        }
        offer = *offer_;
    }
    // No session, so nobody offers another one meanwhile; a write alone may have recorded this one.
    auto recorded = meta_.update([&](Superblock& block) { take_offer(block, offer); });
    if (!recorded) {
        return Failure(recorded.error());
    }
    MutexLock lock(mutex_);
    offer_.reset();
    return true;
}

bool Membership::reopen(const std::shared_ptr<Session>& session) {
    MutexLock lock(mutex_);
    // The question ends with the session, or with the local replica: both are looked at after it.
    while (leaving_out_local_) {
        changed_.wait(lock);
    }
    if (session_ != session || local_failed_) {
        return false;
    }
    mode_ = MirrorMode::syncing;
    why_ = fmt::format("everything is compared with {}", options_.peer);
    since_ = clock_.wall_now();
    return true;
}

void Membership::enter_alone(const std::string& why) {
    session_.reset();
    mode_ = MirrorMode::alone;
    why_ = why;
    since_ = clock_.wall_now();
    if (break_at_ == WallTime{}) {
        break_at_ = since_;
    }
    // Under the mutex: no write may choose the next session before these are on record.
    differences_.suspect_intents();
    changed_.notify_all();
}

void Membership::retire(const std::shared_ptr<Session>& session, const std::string& why) {
    MutexLock lock(mutex_);
    if (session_ == session) {
        enter_alone(why);
    }
}

void Membership::session_lost(const Session& session, const Error& error) {
    {
        MutexLock lock(mutex_);
        if (session_.get() != &session) {
            return;
        }
        enter_alone(error.message);
    }
    if (session_over_) {
        session_over_();
    }
}

void Membership::may_return(const std::string& why) {
    MutexLock lock(mutex_);
    if (mode_ == MirrorMode::alone) {
        why_ = why;
    }
}

void Membership::shut_down() {
    MutexLock lock(mutex_);
    shut_down_ = true;
    changed_.notify_all();
}

Membership::View Membership::view() const {
    MutexLock lock(mutex_);
    View view{mode_, local_failed_, false, why_, since_, break_at_, wrote_alone_};
    view.is_beginning = mode_ == MirrorMode::alone && first_attempt_until_.has_value();
    view.holds_writes = stops_ && mode_ == MirrorMode::alone && !local_failed_;
    if (local_failed_) {
        view.fault = fault_;
    }
    if (mode_ == MirrorMode::alone && (local_failed_ || !cannot_record_.empty())) {
        view.failed = true;
        view.fault = local_failed_ ? fault_ : FailedPart::metadata;
        view.why = local_failed_
                       ? no_replica_left().value().message
                       : fmt::format("{} is lost ({}), and that can't be recorded on {}: {}",
                                     options_.peer, why_, options_.node, cannot_record_);
    }
    return view;
}

Lineage Membership::lineage() const {
    MutexLock lock(mutex_);
    return peer_lineage_ ? *peer_lineage_ : meta_.superblock().lineage;
}

}  // namespace mirror
