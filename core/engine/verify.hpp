// SPDX-License-Identifier: BSD-3-Clause
// The comparison of a whole volume with its standby, in the background: begins where the last one
// was cut off, keeps to a rate, waits while the mirror is not in sync, and remembers what it found
// (verify_record.hpp). What is compared how is in comparison.hpp.
//
// One thread of its own does the work; handle(), view() and stop() may be called from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "core/base/start_thread.hpp"
#include "core/config/config.hpp"
#include "core/control/mailbox.hpp"
#include "core/engine/comparison.hpp"
#include "core/engine/pacer.hpp"
#include "core/engine/verify_record.hpp"
#include "core/events/event_log.hpp"
#include "core/meta/meta_file.hpp"

namespace mirror {

class Verify {
  public:
    struct Parts {
        const VolumeConfig& volume;
        std::string node;  ///< ours
        std::string path;  ///< of the record
        Comparison::Parts comparison;
        MetaFile& meta;
        EventLog& events;
        const Clock& clock;
    };

    explicit Verify(Parts parts);
    ~Verify();  ///< stops
    Verify(const Verify&) = delete;
    Verify& operator=(const Verify&) = delete;

    /// Reads the record, and goes on where it says that a comparison was cut off.
    [[nodiscard]] Result<void> start();
    /// Ends the thread; where it was is durable then, and a later start goes on there. Idempotent.
    void stop();

    /// For what begins from now on: `verify_rate` and `peer_timeout`.
    void take(std::uint64_t usual_rate, std::chrono::milliseconds peer_timeout) noexcept;
    /// A session has got in sync: a comparison may continue in it, or the peer lack its record.
    void hint() EXCLUDES(mutex_);
    /// The request `verify` (docs/design.md, section 7.3).
    [[nodiscard]] Result<control::Json> handle(const control::Json& request);
    /// `peers[].verify` of the status.
    [[nodiscard]] control::Json view() const;

  private:
    struct Wishes {
        bool repair = false;
        bool stop = false;
        bool restart = false;
        bool dry_run = false;
        std::optional<std::uint64_t> rate;
    };

    // verify_requests.cpp
    [[nodiscard]] static Result<Wishes> parse(const control::Json& request);
    [[nodiscard]] Result<void> require_in_sync() const;
    [[nodiscard]] Result<control::Json> begin(const Wishes& wishes);
    [[nodiscard]] Result<std::string> adjust(const Wishes& wishes, const std::string& waits_for)
        REQUIRES(mutex_);
    [[nodiscard]] control::Json halt();
    [[nodiscard]] control::Json plan(const Wishes& wishes);
    [[nodiscard]] std::uint64_t bytes_to_read(std::uint64_t from);
    [[nodiscard]] std::uint64_t rate_of(const std::optional<std::uint64_t>& asked) const noexcept;
    [[nodiscard]] VerifyRecord fresh_record(const Wishes& wishes) const REQUIRES(mutex_);
    [[nodiscard]] control::Json answer(const std::string& text, bool resumed) const;

    void load();
    void run();
    /// Until there is a comparison to do and a mirror in sync to do it with; null: to be stopped.
    [[nodiscard]] std::shared_ptr<Session> wait_for_work();
    void run_pass(const std::shared_ptr<Session>& session);
    /// Takes what was found in the piece; false when the comparison was ended meanwhile.
    [[nodiscard]] bool note(const Comparison::Piece& piece,
                            const std::vector<VerifyFinding>& findings, unsigned run);
    void finish(unsigned run);
    void interrupted(const std::string& why, unsigned run);
    void report_finding(const VerifyFinding& finding);
    /// Waits; cut short by a wish, or when the mirror is not in sync any more.
    void rest(Pacer::Duration time, unsigned run, const Comparison& comparison);
    /// Why a comparison does not go on now; empty: it can.
    [[nodiscard]] std::string obstacle() const;
    void save();
    /// The newest record to the standby. Returns at once where another thread is at it, which tells
    /// this one, too.
    void tell_peer();
    void tell_once();
    [[nodiscard]] bool must_tell_again();
    void report(const std::string& id, Severity severity, const std::string& text,
                const std::string& cause = {}, const std::string& remedy = {});

    const Parts parts_;
    const std::string peer_node_;
    std::atomic<std::uint64_t> usual_rate_;
    std::atomic<std::chrono::milliseconds> peer_timeout_;
    /// One writer of the file, so that the newest record is the last. Held over file I/O, for which
    /// nobody but another writer waits; never over a question to the peer.
    Mutex saving_mutex_;

    mutable Mutex mutex_;
    CondVar wake_;
    bool stop_ GUARDED_BY(mutex_) = false;
    VerifyRecord record_ GUARDED_BY(mutex_);
    bool hinted_ GUARDED_BY(mutex_) = false;
    bool hurry_ GUARDED_BY(mutex_) = false;       ///< the rate was changed: a rest is over
    bool telling_ GUARDED_BY(mutex_) = false;     ///< one question at a time, too
    bool tell_again_ GUARDED_BY(mutex_) = false;  ///< the record was changed since it was asked
    unsigned run_ GUARDED_BY(mutex_) = 0;  ///< a number for each comparison that is begun or ended
    std::uint64_t pass_from_ GUARDED_BY(mutex_) = 0;
    std::optional<SteadyTime> pass_began_ GUARDED_BY(mutex_);
    SteadyTime saved_at_ GUARDED_BY(mutex_){};
    std::optional<SessionId> told_ GUARDED_BY(mutex_);  ///< the session that has the record
    unsigned reported_ GUARDED_BY(mutex_) = 0;  ///< findings of this comparison that got an event

    Thread thread_;
};

}  // namespace mirror
