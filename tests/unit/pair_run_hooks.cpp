// SPDX-License-Identifier: BSD-3-Clause
// What happens to a pair while somebody waits.
#include <algorithm>
#include <utility>

#include "core/base/json.hpp"
#include "pair_run.hpp"

namespace mirror::test {
namespace {

/// Longer than `peer_timeout`, which ends what an application waits for.
constexpr auto beyond_timeouts = 450ms;
/// At most, for who is told when to go on.
constexpr auto longest_hold = 900ms;
/// While an application waits: longer than it may.
constexpr auto longest_silence = 12s;
/// For a session that is to begin while somebody waits; where that one is the supervisor, none can.
constexpr auto longest_beginning = 150ms;
/// For what needs no more than a thread's turn.
constexpr auto a_moment = 200ms;
constexpr auto patience = 10s;

const Error broken{ErrorKind::io, "the disk is broken", {}, 5};

/// To whoever was asked for something on a machine that died.
Failure gone() {
    return fail(ErrorKind::io, "the power is off");
}

const char* word_of(Faults::Step step) {
    switch (step) {
        case Faults::Step::reading:
            return "reading";
        case Faults::Step::writing:
            return "writing";
        case Faults::Step::written:
            return "written";
        case Faults::Step::flushing:
            return "flushing";
        case Faults::Step::flushed:
            return "flushed";
    }
    return "";
}

}  // namespace

void PairRun::arm() {
    watch(pair_->alpha.disk_faults, "alpha disk ");
    watch(pair_->alpha.meta_faults, "alpha meta ");
    watch(pair_->beta.disk_faults, "beta disk ");
    watch(pair_->beta.meta_faults, "beta meta ");
    pair_->server().on_point([this](const std::string& point) { return at(point); });
    MutexLock lock(mutex_);
    armed_ = true;
}

void PairRun::disarm() {
    {
        MutexLock lock(mutex_);
        armed_ = false;
    }
    release_all();
}

void PairRun::watch(Faults& faults, const std::string& disk) {
    faults.on_step([this, disk](Faults::Step step) {
        return step == Faults::Step::reading && disk.find("meta") != std::string::npos
                   ? Result<void>{}
                   : at(disk + word_of(step));
    });
}

Result<void> PairRun::at(const std::string& point) {
    std::optional<Incident> event;
    {
        MutexLock lock(mutex_);
        if (!armed_) {
            return {};
        }
        const Place place{point, ++passings_[point]};
        passed_.push_back(place);
        if (next_fault_ < faults_.size() && faults_[next_fault_].place == place) {
            event = faults_[next_fault_++].event;
            passings_.clear();
            passed_.clear();
        }
    }
    if (!event) {
        return {};
    }
    note(to_string(Fault{*event, {point, 1}}));
    return let_happen(*event, point);
}

Result<void> PairRun::let_happen(Incident event, const std::string& point) {
    switch (event) {
        case Incident::network_lost:
            lose_network();
            return {};
        case Incident::links_lost:
            pair_->server().sever_links();
            await_notice();
            hold(point, false);
            return {};
        case Incident::late:
            hold(point, true);
            return {};
        case Incident::late_then_lost:
            give_late_answers(point);
            lose_network();
            return {};
        case Incident::answer_lost:
            return fail(ErrorKind::io, "the answer got lost");
        case Incident::session_replaced:
            replace_session();
            return {};
        case Incident::disk_error:
            pair_->alpha.disk_faults.fail_once(broken);
            return {};
        case Incident::disk_dies:
            pair_->alpha.disk_faults.fail_writes(broken);
            pair_->alpha.disk_faults.fail_flushes(broken);
            return {};
        case Incident::metadata_error:
            pair_->alpha.meta_faults.fail_once(broken);
            return {};
        case Incident::standby_disk_error:
            pair_->beta.disk_faults.fail_once(broken);
            return {};
        case Incident::standby_metadata_error:
            pair_->beta.meta_faults.fail_once(broken);
            return {};
        case Incident::standby_dies:
        case Incident::standby_loses_power:
            standby_dies(event == Incident::standby_loses_power);
            return point.starts_with("alpha") ? Result<void>{} : gone();
        case Incident::active_dies:
        case Incident::active_loses_power:
            active_dies(event == Incident::active_loses_power);
            return point.starts_with("alpha") ? gone() : Result<void>{};
    }
    return {};
}

void PairRun::active_dies(bool loses_power) {
    std::shared_ptr<Power> power;
    {
        MutexLock lock(mutex_);
        active_dead_ = true;
        active_lost_power_ = loses_power;
        power = alpha_power_;
    }
    power->cut();
}

void PairRun::standby_dies(bool loses_power) {
    std::shared_ptr<Power> power;
    {
        MutexLock lock(mutex_);
        standby_dead_ = true;
        standby_lost_power_ = loses_power;
        power = beta_power_;
    }
    power->cut();
}

void PairRun::lose_network() {
    {
        MutexLock lock(mutex_);
        network_lost_ = true;
    }
    pair_->server().sever();
    await_notice();
}

void PairRun::replace_session() {
    pair_->server().sever();
    await_notice();
    pair_->server().reconnect();
    {
        MutexLock lock(mutex_);
        network_lost_ = false;
    }
    (void)eventually(
        [this] {
            const auto is = mode();
            if (is) {
                MutexLock lock(mutex_);
                ++looking_;
                const bool asks = serving_;
                lock.unlock();
                if (asks) {
                    (void)pair_->ask({{"request", "peer-hint"}});
                }
                lock.lock();
                --looking_;
                changed_.notify_all();
            }
            return is != "alone";
        },
        longest_beginning);
}

std::optional<std::string> PairRun::mode() {
    {
        MutexLock lock(mutex_);
        if (!serving_ || active_dead_) {
            return std::nullopt;
        }
        ++looking_;
    }
    std::string mode = pair_->mode();
    MutexLock lock(mutex_);
    --looking_;
    changed_.notify_all();
    return mode;
}

void PairRun::start_serving() {
    MutexLock lock(mutex_);
    serving_ = true;
}

void PairRun::stop_serving() {
    MutexLock lock(mutex_);
    serving_ = false;
    while (looking_ != 0) {
        changed_.wait(lock);
    }
}

/// The engine knows that its session is over.
void PairRun::await_notice() {
    const bool noticed = eventually(
        [this] {
            const auto is = mode();
            return !is || is == "alone";
        },
        patience);
    if (!noticed) {
        violated("a session's end is not noticed while somebody waits");
    }
}

void PairRun::hold(const std::string& point, bool until_timeouts) {
    const auto held = std::make_shared<Hold>();
    held->point = point;
    held->until_timeouts = until_timeouts;
    const auto begun = std::chrono::steady_clock::now();
    MutexLock lock(mutex_);
    held->stage = stage_;
    holds_.push_back(held);
    ++holds_begun_;
    changed_.notify_all();
    while (!held->released && armed_) {
        // As long as an application waits for it: that is not to be long.
        const auto least = until_timeouts ? beyond_timeouts : longest_hold;
        const auto until = begun + (all_answered() ? least : longest_silence);
        if (std::chrono::steady_clock::now() >= until) {
            break;
        }
        changed_.wait_until(lock, until);
    }
    held->over = true;
    changed_.notify_all();
}

bool PairRun::all_answered() const {
    return std::all_of(unanswered_.begin(), unanswered_.end(),
                       [](const auto& stage) { return stage.second == 0; });
}

/// The requests that came after these were answered, or can't be.
void PairRun::release(unsigned before_stage) {
    MutexLock lock(mutex_);
    for (const auto& hold : holds_) {
        hold->released = hold->released || (!hold->until_timeouts && hold->stage < before_stage);
    }
    changed_.notify_all();
}

void PairRun::release_all() {
    MutexLock lock(mutex_);
    for (const auto& hold : holds_) {
        hold->released = true;
    }
    changed_.notify_all();
    const auto is_over = [](const auto& hold) { return hold->over; };
    while (!std::all_of(holds_.begin(), holds_.end(), is_over)) {
        changed_.wait(lock);
    }
}

void PairRun::await_late() {
    release(~0U);
    MutexLock lock(mutex_);
    const auto is_over = [](const auto& hold) { return hold->over; };
    while (!std::all_of(holds_.begin(), holds_.end(), is_over)) {
        changed_.wait(lock);
    }
}

void PairRun::give_late_answers(const std::string& point) {
    const std::string asked = "ask ";
    std::vector<std::string> awaited;
    {
        MutexLock lock(mutex_);
        for (const auto& hold : holds_) {
            if (!hold->over && hold->point.starts_with(asked)) {
                awaited.push_back("done " + hold->point.substr(asked.size()));
            }
        }
    }
    release_all();
    // Elsewhere this one may be what the other waits for.
    if (!point.starts_with(asked)) {
        return;
    }
    for (const std::string& done : awaited) {
        (void)eventually(
            [&] {
                MutexLock lock(mutex_);
                return passings_[done] != 0;
            },
            a_moment);
    }
}

}  // namespace mirror::test
