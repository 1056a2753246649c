// SPDX-License-Identifier: BSD-3-Clause
// One run of a mirrored pair (the real Volume, Peer and Replica) through a small script of an
// application's requests, with faults where somebody asks or waits, until all is mended; and what
// is promised, checked on the way and at the end.
//
// The test's thread calls run(); the hooks come on every thread of the pair.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "mirror_pair.hpp"
#include "pair_faults.hpp"
#include "write_ledger.hpp"

namespace mirror::test {

/// What happens in each run anyway.
enum class Script {
    plain,       ///< nothing
    disk_error,  ///< the active's disk fails one write
    reconnect,   ///< the network is lost for a moment
};
[[nodiscard]] std::string_view to_string(Script script) noexcept;

/// Nothing of the disk is flushed by being looked at.
[[nodiscard]] Superblock superblock_of(const MemoryDisk& meta);

class PairRun {
  public:
    PairRun(Script script, std::vector<Fault> faults);
    ~PairRun();
    PairRun(const PairRun&) = delete;
    PairRun& operator=(const PairRun&) = delete;

    void run();

    /// What was broken of the promises; empty: nothing.
    [[nodiscard]] std::vector<std::string> violations();
    /// How many of the faults took place: the others' places were never reached.
    [[nodiscard]] std::size_t fired();
    /// Where somebody asked or waited after the last fault, in order.
    [[nodiscard]] std::vector<Place> passed();
    [[nodiscard]] std::string name() const;
    /// All that was noted, for whoever looks into a violation.
    [[nodiscard]] std::string trace();

  private:
    struct Request {
        WriteLedger::Kind kind = WriteLedger::Kind::other;
        ByteRange range{};
    };
    static constexpr WriteLedger::Kind checkpoint = WriteLedger::Kind::other;
    struct Hold {
        std::string point;
        unsigned stage = 0;
        bool until_timeouts = false;
        bool released = false;
        bool over = false;
    };

    // The application.
    void stage(const std::vector<Request>& requests);
    void carry_out(const Request& request, unsigned stage);
    [[nodiscard]] Result<void> perform(const Request& request, WriteLedger::Number number);
    void answered(const Request& request, const Result<void>& answer, SteadyTime begun);
    void join_requests();
    void after_stage(unsigned stage);

    // The hooks.
    void arm();
    void disarm();
    void watch(Faults& faults, const std::string& disk);
    [[nodiscard]] Result<void> at(const std::string& point);
    [[nodiscard]] Result<void> let_happen(Incident event, const std::string& point);
    void active_dies(bool loses_power);
    void standby_dies(bool loses_power);
    void give_late_answers(const std::string& point);
    /// None while there is no engine.
    [[nodiscard]] std::optional<std::string> mode();
    void start_serving();
    void stop_serving();
    void lose_network();
    void replace_session();
    void await_notice();
    void hold(const std::string& point, bool until_timeouts);
    void release(unsigned before_stage);
    void release_all();
    /// Every hold that lasts until the timeouts has.
    void await_late();

    // Between two stages.
    void script_event(unsigned stage);
    void mend();
    void mend_disks();
    void mend_all();
    void bury_active();
    void restart_active();
    void restart_standby();
    [[nodiscard]] bool settle();
    [[nodiscard]] bool is_settled();
    void end_serving();

    // What is promised.
    /// What is on the disks, or will be: of a machine whose power is off nothing else is left.
    struct Disks {
        std::unique_ptr<MemoryDisk> alpha_meta;
        std::unique_ptr<MemoryDisk> beta_meta;
        std::unique_ptr<MemoryDisk> beta_lost_power{};  ///< its disk, where that is so
    };
    [[nodiscard]] Disks look();
    void check_now();
    void check_at_rest();
    void check_disks(const Disks& disks);
    void check_heir(const ReplicaSummary& heir, const ReplicaSummary& other, MemoryDisk& disk,
                    WriteLedger::Promise promise);
    void check_maps(const Disks& disks, const ReplicaSummary& alpha, const ReplicaSummary& beta);
    void check_equal();
    void check_heirs_exist();

    [[nodiscard]] bool all_runs();
    [[nodiscard]] bool is_at_rest();
    [[nodiscard]] bool all_answered() const REQUIRES(mutex_);
    [[nodiscard]] bool may_fail() const;
    void violated(const std::string& what);
    void note(const std::string& what);

    const Script script_;
    const std::vector<Fault> faults_;
    WriteLedger ledger_;

    Mutex mutex_;
    CondVar changed_;
    bool armed_ GUARDED_BY(mutex_) = false;
    bool serving_ GUARDED_BY(mutex_) = false;  ///< there is an engine to ask
    std::size_t next_fault_ GUARDED_BY(mutex_) = 0;
    std::map<std::string, unsigned> passings_ GUARDED_BY(mutex_);  ///< since the last fault
    std::vector<Place> passed_ GUARDED_BY(mutex_);
    std::vector<std::string> violations_ GUARDED_BY(mutex_);
    std::string trace_ GUARDED_BY(mutex_);
    std::vector<std::shared_ptr<Hold>> holds_ GUARDED_BY(mutex_);
    unsigned holds_begun_ GUARDED_BY(mutex_) = 0;
    unsigned stage_ GUARDED_BY(mutex_) = 0;
    std::map<unsigned, unsigned> unanswered_ GUARDED_BY(mutex_);  ///< of each stage
    unsigned looking_ GUARDED_BY(mutex_) = 0;  ///< hooks that ask the engine something
    bool active_dead_ GUARDED_BY(mutex_) = false;
    bool active_lost_power_ GUARDED_BY(mutex_) = false;
    bool standby_dead_ GUARDED_BY(mutex_) = false;
    bool standby_lost_power_ GUARDED_BY(mutex_) = false;
    bool network_lost_ GUARDED_BY(mutex_) = false;
    std::shared_ptr<Power> alpha_power_ GUARDED_BY(mutex_);
    std::shared_ptr<Power> beta_power_ GUARDED_BY(mutex_);
    // The test's thread only.
    bool standby_lacks_cache_ = false;  ///< it lost its power and was not made equal since
    bool over_ = false;                 ///< the active is not to run again
    std::vector<std::thread> threads_;

    std::unique_ptr<MirrorPair> pair_;  ///< its threads end before the rest
};

}  // namespace mirror::test
