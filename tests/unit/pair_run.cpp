// SPDX-License-Identifier: BSD-3-Clause
// The application, and the course of a run. pair_run_hooks.cpp has what happens to it,
// pair_run_mending.cpp how it gets over that, pair_run_promises.cpp what must be so.
#include "pair_run.hpp"

#include <algorithm>
#include <utility>

#include <fmt/ranges.h>

namespace mirror::test {
namespace {

using Kind = WriteLedger::Kind;

constexpr std::uint64_t size = 2 * MiB + 20 * KiB;
/// Of an application's request, whatever happens to the peer: several times what is promised, since
/// the machine may be busy, and far from the ten seconds that a control request may take.
constexpr auto longest_stall = 5s;
/// For what must come to an end.
constexpr auto patience = 20s;

constexpr ByteRange kib(std::uint64_t at, std::uint64_t length) {
    return {at * KiB, length * KiB};
}

bool is_local(Incident event) {
    return event == Incident::disk_error || event == Incident::disk_dies ||
           event == Incident::metadata_error || event == Incident::active_dies ||
           event == Incident::active_loses_power;
}

}  // namespace

std::string_view to_string(Script script) noexcept {
    return script == Script::plain        ? "plain"
           : script == Script::disk_error ? "disk-error"
                                          : "reconnect";
}

PairRun::PairRun(Script script, std::vector<Fault> faults)
    : script_(script),
      faults_(std::move(faults)),
      pair_(
          std::make_unique<MirrorPair>(MirrorPair::Options{.peer_timeout = 300ms, .size = size})) {
    MutexLock lock(mutex_);
    alpha_power_ = pair_->alpha.power;
    beta_power_ = pair_->beta.power;
}

PairRun::~PairRun() {
    disarm();
    join_requests();
    pair_.reset();
}

void PairRun::run() {
    if (!pair_->wait_in_sync()) {
        return violated("the pair does not get in sync");
    }
    start_serving();
    stage({{Kind::write, kib(0, 16)}, {Kind::write, kib(1024, 16)}});
    stage({{Kind::flush}});
    arm();
    const std::vector<std::vector<Request>> stages{
        {{Kind::write, kib(0, 8)}, {Kind::write_fua, kib(1024, 8)}},
        {{checkpoint}},
        {{Kind::flush}},
        {{Kind::flush}, {Kind::write, kib(4, 8)}},
        {{Kind::zero, kib(1028, 4)}, {Kind::write, kib(0, 4)}, {checkpoint}},
        {{Kind::write, kib(2048, 4)}, {Kind::write_fua, kib(12, 4)}}};
    for (unsigned i = 0; i < stages.size() && !over_; ++i) {
        script_event(i);
        stage(stages[i]);
    }
    mend_all();
    if (!over_) {
        check_equal();
        end_serving();
    }
    disarm();
    check_heirs_exist();
}

void PairRun::script_event(unsigned stage) {
    if (script_ == Script::disk_error && stage == 3) {
        pair_->alpha.disk_faults.fail_once(Error{ErrorKind::io, "a bad sector", {}, 5});
    }
    if (script_ == Script::reconnect && stage == 1) {
        lose_network();
    }
    if (script_ == Script::reconnect && stage == 4) {
        pair_->server().reconnect();
        MutexLock lock(mutex_);
        network_lost_ = false;
    }
}

// --- the application

void PairRun::stage(const std::vector<Request>& requests) {
    unsigned number = 0;
    unsigned holds_before = 0;
    {
        MutexLock lock(mutex_);
        number = ++stage_;
        holds_before = holds_begun_;
    }
    for (const Request& request : requests) {
        carry_out(request, number);
    }
    {
        const auto until = std::chrono::steady_clock::now() + patience;
        MutexLock lock(mutex_);
        // Who is held would be waited for in vain; the next requests race with it.
        while (unanswered_[number] != 0 && holds_begun_ == holds_before) {
            if (changed_.wait_until(lock, until) == std::cv_status::timeout) {
                break;  // said by the request itself, when it ends
            }
        }
    }
    after_stage(number);
}

void PairRun::after_stage(unsigned stage) {
    release(stage);
    bool active_dead = false;
    bool standby_dead = false;
    {
        MutexLock lock(mutex_);
        active_dead = active_dead_;
        standby_dead = standby_dead_ && !standby_lost_power_;
    }
    if (active_dead) {
        bury_active();
        if (!over_) {
            restart_active();
        }
    } else if (standby_dead) {
        restart_standby();
    }
    if (is_at_rest()) {
        check_now();
    }
}

void PairRun::carry_out(const Request& request, unsigned stage) {
    {
        MutexLock lock(mutex_);
        if (!serving_ || active_dead_) {
            return;
        }
        ++unanswered_[stage];
    }
    // Here, so that the order of the stages is that of the ledger.
    const WriteLedger::Number number = ledger_.begin(request.kind, request.range);
    threads_.emplace_back([this, request, stage, number] {
        const SteadyTime begun = std::chrono::steady_clock::now();
        const Result<void> answer = perform(request, number);
        bool heard = false;
        {
            MutexLock lock(mutex_);
            heard = !active_dead_;  // else nobody is there to hear it
        }
        ledger_.end(number, answer && heard);
        if (heard) {
            answered(request, answer, begun);
        }
        MutexLock lock(mutex_);
        --unanswered_[stage];
        changed_.notify_all();
    });
}

Result<void> PairRun::perform(const Request& request, WriteLedger::Number number) {
    Volume& volume = pair_->volume();
    switch (request.kind) {
        case Kind::write:
        case Kind::write_fua:
            return volume.write(WriteLedger::bytes_of(number, request.range.length),
                                request.range.offset,
                                request.kind == Kind::write ? Durability::cached : Durability::fua);
        case Kind::zero:
            return volume.zero(request.range, Space::may_free, Durability::cached);
        case Kind::flush:
            return volume.flush();
        case checkpoint:
            break;
    }
    (void)volume.checkpoint();
    return {};
}

void PairRun::answered(const Request& request, const Result<void>& answer, SteadyTime begun) {
    const auto took = std::chrono::steady_clock::now() - begun;
    if (took > longest_stall && request.kind != checkpoint) {
        violated(fmt::format("a request was held for {} ms",
                             std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
    }
    if (!answer) {
        note("a request failed: " + answer.error().text());
        if (!may_fail()) {
            violated("the application got an error: " + answer.error().text());
        }
    }
}

/// A loss of the peer is not the application's business.
bool PairRun::may_fail() const {
    return (script_ == Script::disk_error && !faults_.empty()) ||
           std::any_of(faults_.begin(), faults_.end(),
                       [](const Fault& fault) { return is_local(fault.event); });
}

void PairRun::join_requests() {
    for (std::thread& thread : threads_) {
        thread.join();
    }
    threads_.clear();
}

bool PairRun::is_at_rest() {
    MutexLock lock(mutex_);
    const bool held =
        std::any_of(holds_.begin(), holds_.end(), [](const auto& hold) { return !hold->over; });
    return all_answered() && !held && serving_ && !active_dead_;
}

// --- what is told about it

std::vector<std::string> PairRun::violations() {
    MutexLock lock(mutex_);
    return violations_;
}

std::size_t PairRun::fired() {
    MutexLock lock(mutex_);
    return next_fault_;
}

std::vector<Place> PairRun::passed() {
    MutexLock lock(mutex_);
    return passed_;
}

std::string PairRun::name() const {
    std::vector<std::string> faults;
    for (const Fault& fault : faults_) {
        faults.push_back(to_string(fault));
    }
    return fmt::format("{}:{}", to_string(script_), fmt::join(faults, ","));
}

std::string PairRun::trace() {
    MutexLock lock(mutex_);
    return trace_;
}

void PairRun::violated(const std::string& what) {
    note("VIOLATED: " + what);
    MutexLock lock(mutex_);
    violations_.push_back(what);
}

void PairRun::note(const std::string& what) {
    MutexLock lock(mutex_);
    trace_ += what + "\n";
}

}  // namespace mirror::test
