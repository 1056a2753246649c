// SPDX-License-Identifier: BSD-3-Clause
// The supervisor of the one peer: connects, shakes hands, brings the standby up to date, watches
// the session, and starts again after a break, with back-off and jitter. One thread of its own
// does all of it in order; the other calls only leave it a wish and wake it.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"
#include "core/config/config.hpp"
#include "core/engine/membership.hpp"
#include "core/engine/resync.hpp"
#include "core/engine/retry_delay.hpp"
#include "core/engine/session_watch.hpp"
#include "core/engine/step_keeper.hpp"
#include "core/lineage/handshake.hpp"

namespace mirror {

class Peer {
  public:
    struct Parts {
        const Config& config;
        const VolumeConfig& volume;
        std::string node;  ///< ours
        Store& store;
        MetaFile& meta;
        Differences& differences;
        RangeLock& ranges;
        Membership& membership;
        EventLog& events;
        const Clock& clock;
        Salvage::Report unreadable;  ///< of a resync
    };

    /// How the peer is reached, and what the handshake says that we are set to. An attempt works
    /// with one of these from its first question to the end of its session.
    struct Way {
        PeerAddress address;
        std::map<std::string, std::string> settings;  ///< VolumeConfig::shared_settings()
        std::uint64_t number = 0;                     ///< another one where the address is
    };

    explicit Peer(Parts parts);
    ~Peer();  ///< stops
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;

    [[nodiscard]] Result<void> start();
    /// Ends a session in good order ("demote") if there is one, and the thread.
    void stop();

    /// The peer was seen: try now.
    void hint();
    /// Go on without the peer until connect(). Returns when the standby was told, or could not be.
    [[nodiscard]] Result<std::string> disconnect();
    [[nodiscard]] Result<std::string> connect();
    /// Ends the session in good order and begins none until go_on(): the engine is to be replaced.
    /// An error when that takes longer than `until`.
    [[nodiscard]] Result<void> suspend(SteadyTime until);
    /// Writes wait for the first attempt again.
    void go_on();
    /// From the next attempt on, which is made now if there is no session. One that there is goes
    /// on as it began: the peer may have the old settings still, and would refuse the next.
    void take(PeerAddress address, std::map<std::string, std::string> settings, bool is_other_way);
    /// The peer has the new settings, too: a session that is in sync ends in good order, and the
    /// next begins with them.
    void renew();
    [[nodiscard]] std::chrono::milliseconds timeout() const;
    /// Tries now; `full` compares everything.
    [[nodiscard]] Result<std::string> resync(bool full);
    /// Why it would be refused now.
    [[nodiscard]] Result<void> may_resync() const;

    /// The standby has everything but these; our disk can't read them.
    struct Incomplete {
        Differences::Lacking lacking{};
        std::uint64_t bytes = 0;
        std::string cause{};  ///< the disk's words
        WallTime next_try{};
        std::string text{};  ///< all of it as a sentence
    };

    struct View {
        std::string link;  ///< "connected", "connecting", "down"
        std::optional<Action> action;
        std::optional<ReplicaState> replica_state;
        std::optional<WallTime> last_seen;
        std::optional<Resync::Progress> resync;
        std::optional<Resync::Progress> last_resync;
        bool paused = false;
        /// Why no session can begin although the peer answers; empty: that is not the case.
        std::string refusal{};
        std::string split_brain{};  ///< the reason of Action::diverged; empty: not that action
        std::optional<Incomplete> incomplete{};
        std::optional<tls::Proof> tls{};  ///< of the session's data link; none: not encrypted
        std::string tls_fault{};          ///< why that link does not stay, or can't be renewed
        bool is_outdated = false;         ///< the session began before take() changed the way
        /// The newest session that was begun, whether or not the peer has heard of it.
        SessionId session_begun{};
    };
    [[nodiscard]] View view() const;
    /// Fails, and says so, where the last handshake found one. What needs both replicas to become
    /// equal asks first.
    [[nodiscard]] Result<void> require_no_split_brain() const;

    /// Makes everything durable on all who take part; for the housekeeper and for a demote.
    [[nodiscard]] Result<void> checkpoint(IntentMap::Clear what);
    /// Raises the step before the first write after a quiet time. Fails as the metadata here do.
    [[nodiscard]] Result<void> leave_quiet();

  private:
    void run();
    [[nodiscard]] Result<void> attempt();
    [[nodiscard]] Result<void> flush_everybody();
    [[nodiscard]] Result<void> settle_step(IntentMap::Clear what);
    [[nodiscard]] Result<Decision> shake_hands(const Way& way, PeerControl& control);
    /// Fails when so much does not get through within peer_timeout.
    [[nodiscard]] Result<control::Json> ask_at_full_size(const Way& way, PeerControl& control,
                                                         control::Json request);
    void note_session_over(Session& session, SteadyTime began, const Result<void>& outcome);
    [[nodiscard]] Result<std::shared_ptr<Session>> open_session(const Way& way);
    [[nodiscard]] Way way() const;
    /// Whether the session is to be followed by another at once: then writes wait for that.
    [[nodiscard]] bool begins_renewal();
    [[nodiscard]] Result<void> bring_up_to_date(const std::shared_ptr<Session>& session);
    /// The resync is over and some blocks could not be read: records that, tells everybody whom it
    /// is news for.
    [[nodiscard]] Result<void> leave_incomplete(const std::shared_ptr<Session>& session,
                                                const Resync& resync,
                                                std::chrono::milliseconds next_try,
                                                std::optional<Differences::Lacking>& reported);
    /// Until the application has overwritten these blocks, or it is time to read them again. False
    /// when the session is over or somebody wants something else.
    [[nodiscard]] bool await_another_try(const Session& session, std::chrono::milliseconds delay);
    [[nodiscard]] Incomplete describe_incomplete() const REQUIRES(mutex_);
    /// Waits for the session's end, or for a wish that ends or reopens it.
    void hold(const std::shared_ptr<Session>& session);
    void end_session(const std::shared_ptr<Session>& session, const std::string& reason);
    [[nodiscard]] bool end_wanted() const;
    [[nodiscard]] bool is_resting() const REQUIRES(mutex_) { return paused_ || suspended_; }
    /// Until the time is over, the peer is seen, or there is something else to do.
    void wait_before_retry(std::chrono::milliseconds delay);
    void wait_while_paused();
    [[nodiscard]] Result<void> record_session(const SessionId& session, std::uint64_t step);
    void set_link(const std::string& link);
    void note_last_answer(const Session& session);
    void note_decision(const Decision& decision, const ReplicaSummary& theirs);
    void report(const std::string& id, Severity severity, const std::string& text,
                const std::string& cause = {}, const std::string& remedy = {});
    void report_failure(const Error& error);
    void report_break();

    const Parts parts_;
    const std::string peer_node_;
    std::minstd_rand jitter_;
    bool renews_ = false;           ///< the next attempt follows at once; the peer's thread only
    SessionId begun_{};             ///< the newest that was asked for; the peer's thread only
    std::uint64_t begun_step_ = 0;  ///< with it; likewise
    std::uint64_t their_step_ =
        0;  ///< the newest that the peer knew in the last handshake; likewise
    StepKeeper steps_;
    /// A session ended because the standby was silent when it was asked to take a step.
    std::atomic<bool> silent_at_step_{false};
    RetryDelay retry_;  ///< the peer's thread only
    SessionWatch session_watch_;

    mutable Mutex mutex_;
    CondVar wake_;
    Way way_ GUARDED_BY(mutex_);
    SessionId begun_for_others_ GUARDED_BY(mutex_){};   ///< begun_, for view()
    std::uint64_t session_way_ GUARDED_BY(mutex_) = 0;  ///< the number of the session's
    bool renewal_wanted_ GUARDED_BY(mutex_) = false;
    bool stop_ GUARDED_BY(mutex_) = false;
    bool hinted_ GUARDED_BY(mutex_) = false;
    bool paused_ GUARDED_BY(mutex_) = false;
    bool suspended_ GUARDED_BY(mutex_) = false;  ///< as paused, until the engine is killed
    bool full_wanted_ GUARDED_BY(mutex_) = false;
    bool again_wanted_ GUARDED_BY(mutex_) = false;  ///< try what could not be read
    bool idle_ GUARDED_BY(mutex_) = true;           ///< no attempt or session under way
    std::string link_ GUARDED_BY(mutex_) = "down";
    std::optional<Action> action_ GUARDED_BY(mutex_);
    std::optional<ReplicaState> replica_state_ GUARDED_BY(mutex_);
    std::string split_brain_ GUARDED_BY(mutex_);  ///< View::split_brain
    std::optional<WallTime> last_seen_ GUARDED_BY(mutex_);
    std::shared_ptr<Resync> resync_ GUARDED_BY(mutex_);
    std::optional<Resync::Progress> last_resync_ GUARDED_BY(mutex_);
    std::string unreadable_cause_ GUARDED_BY(mutex_);  ///< of the last resync's gaps
    bool gave_up_ GUARDED_BY(mutex_) = false;          ///< the last resync, on a dying disk
    WallTime next_try_ GUARDED_BY(mutex_){};           ///< to read them
    std::string last_failure_ GUARDED_BY(mutex_);
    std::string refusal_ GUARDED_BY(mutex_);

    Thread thread_;
};

}  // namespace mirror
