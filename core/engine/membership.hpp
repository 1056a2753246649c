// SPDX-License-Identifier: BSD-3-Clause
// Who takes part in a write right now, and what must be durable before an answer may leave
// somebody out (promises 1 and 10). The peer takes part while a session is installed; the local
// replica until its disk failed. Every change of that is made here, under one mutex, together with
// the change-map bits that it means, so that no write can fall between two states.
//
// Called by every writing thread, by the supervisor (install, in_sync, retire) and by link threads
// (session_lost, which must not block).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/base/clock.hpp"
#include "core/base/sync.hpp"
#include "core/config/config.hpp"
#include "core/engine/differences.hpp"
#include "core/engine/session.hpp"
#include "core/events/event_log.hpp"

namespace mirror {

enum class MirrorMode {
    alone,
    syncing,
    incomplete,  ///< in session, and the standby has all but what our disk can't read
    in_sync,
};
[[nodiscard]] std::string_view to_string(MirrorMode mode) noexcept;

/// What of the local replica failed.
enum class FailedPart {
    backing,
    metadata,  ///< in STATE_DIR; the backing is as good as it was
};
[[nodiscard]] std::string_view to_string(FailedPart fault) noexcept;

class Membership {
  public:
    struct Options {
        std::string volume;
        std::string node;
        std::string peer;
        OnPeerLoss on_peer_loss = OnPeerLoss::continue_alone;  ///< until take()
    };

    Membership(Options options, MetaFile& meta, Differences& differences, EventLog& events,
               const Clock& clock);

    /// The parties of one write.
    struct Parties {
        std::shared_ptr<Session> session;  ///< null: the peer is left out
        bool local = true;
        MirrorMode mode = MirrorMode::alone;
    };

    /// Writes wait for the first attempt to reach the peer, until `deadline` at the latest: after a
    /// planned promotion nothing is answered alone just because the link takes its milliseconds.
    void await_first_attempt(SteadyTime deadline) EXCLUDES(mutex_);
    /// The peer was reached, could not be, or is not to be.
    void first_attempt_over() EXCLUDES(mutex_);

    /// For a write that has its range lock and its intent. When the peer is left out its blocks
    /// are marked changed here. Under `on_peer_loss = stop` waits for a session.
    [[nodiscard]] Result<Parties> parties_of_write(ByteRange range) EXCLUDES(mutex_);
    /// As parties_of_write(), for a caller that must not wait: nothing where it might, or where
    /// somebody has to decide something first.
    [[nodiscard]] std::optional<Parties> parties_at_once(ByteRange range) EXCLUDES(mutex_);
    [[nodiscard]] Parties parties() const EXCLUDES(mutex_);
    /// For a flush: what it is acknowledged on.
    [[nodiscard]] Parties parties_of_flush() EXCLUDES(mutex_);

    /// Before the answer to a write that the peer did not get: makes it durable that we went on
    /// alone. With `on_peer_loss = stop` call wait_for_peer() instead, without the range lock.
    [[nodiscard]] Result<void> record_alone() EXCLUDES(mutex_);
    /// Whether record_alone() has nothing to do, so that a write may be answered without waiting.
    [[nodiscard]] bool alone_is_recorded() const EXCLUDES(mutex_);
    /// A command failed on the peer: marks the range, ends the session if it goes on.
    void peer_failed(const std::shared_ptr<Session>& session, ByteRange range, const Error& error)
        EXCLUDES(mutex_);
    [[nodiscard]] bool stops_without_peer() const noexcept { return stops_.load(); }
    /// `on_peer_loss` is another one from now on, also for what waits already.
    void take(OnPeerLoss on_peer_loss) EXCLUDES(mutex_);
    /// Until the peer has `range` and whatever was answered before, durably; or until
    /// `on_peer_loss` says that nobody has to wait: then as record_alone().
    [[nodiscard]] Result<void> wait_for_peer(ByteRange range) EXCLUDES(mutex_);

    /// The local disk failed while the peer has the write: the peer takes, durably, a generation of
    /// which it alone has everything; then the local replica takes no part any more. While the peer
    /// is asked nothing is acknowledged on the local replica alone, whatever happens to the
    /// session; and nothing on the peer alone before the failure is written down here, since an
    /// engine that begins to serve from this replica again would lack it. A disk that hangs delays
    /// that for `record_patience` at most.
    [[nodiscard]] Result<void> leave_out_local(const std::shared_ptr<Session>& session,
                                               const Error& error,
                                               FailedPart fault = FailedPart::backing)
        EXCLUDES(mutex_);
    /// The same with the session of now. Fails, with `error`, when the peer can't go on alone.
    /// Where that is decided already it does not wait for the record, which may be what asks.
    [[nodiscard]] Result<void> leave_out_local(const Error& error,
                                               FailedPart fault = FailedPart::backing)
        EXCLUDES(mutex_);
    /// Writes down that the local replica was left out, if that is still to be done: a disk that
    /// hangs must not hold up the application once more. From the housekeeper, again and again, and
    /// at the end of the role.
    void record_local_failure() EXCLUDES(mutex_);
    /// Then tells the peer so, which may be promoted without asking us from then on: the same. With
    /// `serving_ends` also where it could not be written down: nothing is answered here any more.
    void confirm_to_peer(bool serving_ends) EXCLUDES(mutex_);
    /// Whether `theirs` has the generation that the peer was asked to take when the answer was
    /// lost: it did agree. Then the generation is ours, too, durably, and both are equal again.
    [[nodiscard]] Result<bool> adopt_offer(const Lineage& theirs) EXCLUDES(mutex_);
    /// False once the local replica was left out, for good. Takes no lock.
    [[nodiscard]] bool uses_local() const noexcept { return !local_out_.load(); }

    // For the supervisor.
    /// `resync`: the standby knows that it is being overwritten. Fails when it does not and there
    /// are differences, from a write that was answered without it while the session began.
    [[nodiscard]] Result<void> install(std::shared_ptr<Session> session, bool resync)
        EXCLUDES(mutex_);
    /// Everything is equal: records it here and on the standby. Fails when a difference came up
    /// meanwhile or the session was lost.
    [[nodiscard]] Result<void> conclude(const std::shared_ptr<Session>& session) EXCLUDES(mutex_);
    /// The standby has, durably, all but what is still marked: the local disk can't read that.
    [[nodiscard]] Result<void> leave_incomplete(const std::shared_ptr<Session>& session)
        EXCLUDES(mutex_);
    /// Back to `syncing` within a session that is in sync, for a comparison of everything.
    /// False when it can't be: the session is over, or there is nothing here to compare with.
    [[nodiscard]] bool reopen(const std::shared_ptr<Session>& session) EXCLUDES(mutex_);
    /// Ends a session on purpose; nothing of it may be in flight.
    void retire(const std::shared_ptr<Session>& session, const std::string& why) EXCLUDES(mutex_);
    void session_lost(const Session& session, const Error& error) EXCLUDES(mutex_);
    /// A peer that was kept away by hand may come again: from now on `why` it is not there.
    void may_return(const std::string& why) EXCLUDES(mutex_);
    /// Called without locks held, from any thread, when a session ended.
    void on_session_over(std::function<void()> callback) { session_over_ = std::move(callback); }

    /// Likewise, when a session has got in sync.
    void on_in_sync(std::function<void()> callback) { in_sync_ = std::move(callback); }
    /// Likewise, when the local replica was left out: the peer is to be told, and where that is not
    /// `recorded` yet, it is to be.
    void on_local_out(std::function<void(bool recorded)> callback) {
        local_out_told_ = std::move(callback);
    }

    /// Waiting writes fail, record_alone() fails from now on.
    void shut_down() EXCLUDES(mutex_);

    struct View {
        MirrorMode mode = MirrorMode::alone;
        bool local_failed = false;
        bool failed = false;  ///< no write can be answered, and `why` says it
        std::string why;
        WallTime since{};
        WallTime break_at{};                ///< epoch: not broken
        bool wrote_alone = false;           ///< something was answered since the break
        bool is_beginning = false;          ///< the first attempt to have a session is under way
        bool holds_writes = false;          ///< they wait for the peer: on_peer_loss = "stop"
        std::optional<FailedPart> fault{};  ///< of the local replica, where something failed
    };
    [[nodiscard]] View view() const EXCLUDES(mutex_);
    [[nodiscard]] Lineage lineage() const EXCLUDES(mutex_);

  private:
    /// What somebody waits for while another one asks the peer. Who may hold the metadata file, in
    /// which the failure is recorded, must not wait for the record.
    enum class Until { agreed, recorded };
    [[nodiscard]] Result<void> ask_to_go_on_alone(const std::shared_ptr<Session>& session,
                                                  const Error& error, FailedPart fault, Until until)
        EXCLUDES(mutex_);
    void report_local_failure(const Error& error, FailedPart fault);
    /// The peer has agreed; acknowledgements wait until this is over.
    void have_failure_recorded(const Error& error) EXCLUDES(mutex_);
    [[nodiscard]] bool is_failure_being_recorded() const REQUIRES(mutex_) {
        return local_failed_ && leaving_out_local_;
    }
    [[nodiscard]] bool peer_has(ByteRange range) const REQUIRES(mutex_);
    void wait_for_first_attempt(MutexLock& lock) REQUIRES(mutex_);
    void enter_alone(const std::string& why) REQUIRES(mutex_);
    [[nodiscard]] Failure no_replica_left() const REQUIRES(mutex_);
    [[nodiscard]] bool is_in_sync_with(const std::shared_ptr<Session>& session) const
        REQUIRES(mutex_);

    const Options options_;
    MetaFile& meta_;
    Differences& differences_;
    EventLog& events_;
    const Clock& clock_;
    std::function<void()> session_over_;
    std::function<void()> in_sync_;
    std::function<void(bool)> local_out_told_;
    std::atomic<bool> stops_;  ///< changed under the mutex, for those who wait

    mutable Mutex mutex_;
    MirrorMode mode_ GUARDED_BY(mutex_) = MirrorMode::alone;
    std::shared_ptr<Session> session_ GUARDED_BY(mutex_);
    bool shut_down_ GUARDED_BY(mutex_) = false;
    std::optional<SteadyTime> first_attempt_until_ GUARDED_BY(mutex_);
    bool alone_recorded_ GUARDED_BY(mutex_) = false;
    bool recording_ GUARDED_BY(mutex_) = false;
    bool wrote_alone_ GUARDED_BY(mutex_) = false;
    bool local_failed_ GUARDED_BY(mutex_) = false;
    std::atomic<bool> local_out_{false};  ///< the same, for a look without the mutex
    FailedPart fault_ GUARDED_BY(mutex_) = FailedPart::backing;  ///< of local_failed_
    std::optional<Error> unrecorded_failure_ GUARDED_BY(mutex_);
    /// The peer took a generation in it, and was not told yet that this is written down here.
    std::weak_ptr<Session> unconfirmed_ GUARDED_BY(mutex_);
    bool recording_failure_ GUARDED_BY(mutex_) = false;
    bool failure_recorded_ GUARDED_BY(mutex_) = false;
    bool failure_reported_ GUARDED_BY(mutex_) = false;
    /// Why it can't be written down that the peer is left out; empty: it can, or is.
    std::string cannot_record_ GUARDED_BY(mutex_);
    /// The peer is being asked: until its answer, or the end of the session, nobody knows whether
    /// the local replica still counts. And after it, until that is written down.
    bool leaving_out_local_ GUARDED_BY(mutex_) = false;
    /// What the peer was asked to take and may have taken. Whatever we go on to alone descends from
    /// it, so that a peer that has it is behind and not diverged.
    std::optional<Lineage> offer_ GUARDED_BY(mutex_);
    /// With the local disk failed: the lineage that the peer goes on with.
    std::optional<Lineage> peer_lineage_ GUARDED_BY(mutex_);
    std::string why_ GUARDED_BY(mutex_);
    WallTime since_ GUARDED_BY(mutex_);
    WallTime break_at_ GUARDED_BY(mutex_);
    CondVar changed_;
};

}  // namespace mirror
