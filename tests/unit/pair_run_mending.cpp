// SPDX-License-Identifier: BSD-3-Clause
// What mirrord and the people do between two stages of a run, until both replicas are equal.
#include <utility>

#include "core/base/json.hpp"
#include "core/lineage/promotion.hpp"
#include "pair_run.hpp"

namespace mirror::test {
namespace {

using Kind = WriteLedger::Kind;

/// For what must come to an end.
constexpr auto patience = 20s;
constexpr unsigned most_mendings = 6;
constexpr ByteRange once_more{512 * KiB, 4 * KiB};

Kept nothing() {
    return [](std::size_t) { return false; };
}

}  // namespace

void PairRun::mend_all() {
    for (unsigned i = 0; i < most_mendings && !over_; ++i) {
        const std::size_t fired_before = fired();
        mend();
        if (over_) {
            return;
        }
        stage({{Kind::write, once_more}, {Kind::flush}});
        if (!over_ && settle() && fired() == fired_before) {
            return;
        }
    }
}

void PairRun::mend() {
    join_requests();
    await_late();
    mend_disks();
    bool active_dead = false;
    bool standby_dead = false;
    {
        MutexLock lock(mutex_);
        active_dead = active_dead_;
        standby_dead = standby_dead_;
    }
    if (active_dead) {
        bury_active();
    }
    if (standby_dead) {
        restart_standby();
    }
    if (active_dead && !over_) {
        restart_active();
    }
    MutexLock lock(mutex_);
    if (std::exchange(network_lost_, false)) {
        lock.unlock();
        pair_->server().reconnect();
    }
}

void PairRun::mend_disks() {
    for (Machine* machine : {&pair_->alpha, &pair_->beta}) {
        for (Faults* faults : {&machine->disk_faults, &machine->meta_faults}) {
            faults->fail_once({});
            faults->fail_writes({});
            faults->fail_flushes({});
        }
    }
}

void PairRun::bury_active() {
    stop_serving();
    join_requests();
    bool lost_power = false;
    {
        MutexLock lock(mutex_);
        lost_power = std::exchange(active_lost_power_, false);
    }
    pair_->kill_active(lost_power ? nothing() : Kept());
    ledger_.machine_died(lost_power);
    mend_disks();
    check_at_rest();
    release_all();  // what was late may be done even now
    check_at_rest();
}

/// As mirrord does: the engine starts again where the peer says that it did not take over.
void PairRun::restart_active() {
    {
        MutexLock lock(mutex_);
        if (standby_dead_) {
            lock.unlock();
            restart_standby();
        }
    }
    const Superblock ours = superblock_of(pair_->alpha.meta);
    const auto replaced = why_not_resume(summarize(ours, 0, 0), pair_->replica().summary());
    if (ours.role != Role::active || !ours.last_active || replaced) {
        note("alpha stays a standby: " + replaced.value_or("it gave its say away"));
        over_ = true;
        return;
    }
    disarm();
    pair_->restart_active();
    {
        MutexLock lock(mutex_);
        active_dead_ = false;
        network_lost_ = false;
        alpha_power_ = pair_->alpha.power;
    }
    start_serving();
    arm();
}

void PairRun::restart_standby() {
    release_all();
    disarm();
    bool lost_power = false;
    {
        MutexLock lock(mutex_);
        lost_power = std::exchange(standby_lost_power_, false);
    }
    pair_->kill_standby(lost_power ? nothing() : Kept());
    standby_lacks_cache_ = standby_lacks_cache_ || lost_power;
    mend_disks();
    pair_->restart_standby();
    {
        MutexLock lock(mutex_);
        standby_dead_ = false;
        beta_power_ = pair_->beta.power;
    }
    arm();
}

/// False when something is broken again.
bool PairRun::settle() {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (all_runs()) {
        if (is_settled()) {
            // With the local replica left out nobody gives it back what it lost.
            standby_lacks_cache_ = standby_lacks_cache_ && pair_->status()["local_failed"] == true;
            return all_runs();
        }
        if (over_) {
            return true;
        }
        if (std::chrono::steady_clock::now() > until) {
            violated("the mirror does not get whole again: " + pair_->status().dump());
            over_ = true;
            return true;
        }
        (void)pair_->ask({{"request", "peer-hint"}});
        std::this_thread::sleep_for(1ms);
    }
    return false;
}

bool PairRun::is_settled() {
    const control::Json status = pair_->status();
    if (status["peer"]["action"] == "diverged") {
        violated("a split brain that is none: " + status["why"].get<std::string>());
        over_ = true;
        return false;
    }
    return status["local_failed"] == true ||
           (status["mode"] == "in-sync" && pair_->server().was_met());
}

void PairRun::end_serving() {
    const std::size_t fired_before = fired();
    const bool local_failed = pair_->status()["local_failed"] == true;
    const auto ended =
        pair_->volume().handle({{"request", "quiesce"}, {"disconnect_clients", true}});
    await_late();
    const bool undisturbed = fired() == fired_before && all_runs();
    if (!ended && undisturbed) {
        violated("the active can't be demoted: " + ended.error().text());
    }
    stop_serving();
    bool lost_power = false;
    {
        MutexLock lock(mutex_);
        lost_power = active_lost_power_;
    }
    pair_->kill_active(lost_power ? nothing() : Kept());
    ledger_.machine_died(lost_power);
    note(fmt::format("demoted{}{}", local_failed ? ", its disk had failed" : "",
                     undisturbed ? "" : ", disturbed"));
    check_at_rest();
}

bool PairRun::all_runs() {
    MutexLock lock(mutex_);
    return !active_dead_ && !standby_dead_ && !network_lost_;
}

}  // namespace mirror::test
