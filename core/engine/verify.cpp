// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/verify.hpp"

#include <algorithm>
#include <utility>

#include "core/base/json.hpp"
#include "core/base/log.hpp"

namespace mirror {
namespace {

using control::Json;
using std::chrono::milliseconds;

/// What a crash costs at most: this much of the work is done again.
constexpr milliseconds save_period{5000};
constexpr milliseconds look_while_waiting{200};
/// Whatever there may be to do is told (hint(), handle()): this is for what was overlooked.
constexpr milliseconds look_while_idle{60000};
/// A replica that is wrong all over must not fill the event log; the record counts the rest.
constexpr unsigned most_events = 16;

}  // namespace

Verify::Verify(Parts parts)
    : parts_(std::move(parts)),
      peer_node_(parts_.volume.peer_of(parts_.node)),
      usual_rate_(parts_.volume.verify_rate),
      peer_timeout_(parts_.comparison.peer_timeout) {}

Verify::~Verify() {
    stop();
}

Result<void> Verify::start() {
    load();
    return start_thread(thread_, "verify", [this] { run(); });
}

void Verify::stop() {
    {
        MutexLock lock(mutex_);
        stop_ = true;
        wake_.notify_all();
    }
    if (!thread_.joinable()) {
        return;
    }
    thread_.join();
    bool was_running = false;
    std::uint64_t position = 0;
    {
        MutexLock lock(mutex_);
        was_running = record_.state == VerifyState::running;
        position = record_.position;
    }
    if (was_running) {
        save();
        report("verify-interrupted", Severity::info,
               fmt::format("verify with {} paused at {}", peer_node_, format_size(position)),
               fmt::format("{} stops serving the volume", parts_.node),
               "nothing: it resumes on the node where the volume is active next");
    }
}

void Verify::load() {
    const Superblock block = parts_.meta.superblock();
    auto loaded = load_verify_record(parts_.path);
    const bool is_ours =
        loaded && *loaded && (*loaded)->volume == block.volume && (*loaded)->size <= block.size;
    if (!loaded || (*loaded && !is_ours)) {
        report("verify-record-lost", Severity::warning,
               "the result of the last verify was discarded",
               loaded ? fmt::format("{} belongs to another volume", parts_.path)
                      : loaded.error().message,
               fmt::format("to compare everything again: mirrorctl verify {}", parts_.volume.name));
    }
    bool dropped_repair = false;
    {
        MutexLock lock(mutex_);
        if (is_ours) {
            record_ = std::move(**loaded);
            record_.size = block.size;  // what a resize added is compared by the next pass
            // A repair was to send the other node's blocks. Nobody has said that these here are
            // the good ones.
            dropped_repair = record_.repair && record_.source != parts_.node &&
                             record_.state == VerifyState::running;
            record_.repair = record_.repair && !dropped_repair;
            record_.source = parts_.node;
        } else {
            record_.volume = block.volume;
            record_.size = block.size;
        }
    }
    if (dropped_repair) {
        report(
            "verify-resumed", Severity::warning,
            fmt::format("verify continues without repair: it was started to send the blocks of {}",
                        peer_node_),
            fmt::format("{} is active on {} now", parts_.volume.name, parts_.node),
            fmt::format("if the blocks of {} are the good ones: mirrorctl verify {} --repair "
                        "--restart",
                        parts_.node, parts_.volume.name));
    }
}

void Verify::run() {
    while (const auto session = wait_for_work()) {
        run_pass(session);
    }
}

std::shared_ptr<Session> Verify::wait_for_work() {
    while (true) {
        // They may change at once: the comparison looks after each piece whether this session still
        // is the one, and in sync.
        const Membership::Parties parties = parts_.comparison.membership.parties();
        const bool ready = parties.session && parties.mode == MirrorMode::in_sync &&
                           parties.local && !parties.session->is_lost();
        bool must_tell = false;
        {
            MutexLock lock(mutex_);
            if (stop_) {
                return nullptr;
            }
            const bool running = record_.state == VerifyState::running;
            if (ready && running) {
                return parties.session;
            }
            must_tell = ready && !telling_ && record_.state != VerifyState::never &&
                        told_ != parties.session->id();
            // A hint may have come since the look at the membership.
            if (!must_tell && !std::exchange(hinted_, false)) {
                wake_.wait_for(lock, running ? look_while_waiting : look_while_idle);
            }
        }
        if (must_tell) {
            tell_peer();
        }
    }
}

void Verify::run_pass(const std::shared_ptr<Session>& session) {
    Comparison::Parts comparing = parts_.comparison;
    comparing.peer_timeout = peer_timeout_;
    Comparison comparison(comparing, session);
    Pacer pacer;
    unsigned run = 0;
    std::uint64_t from = 0;
    {
        MutexLock lock(mutex_);
        run = run_;
        from = record_.position;
        pass_from_ = from;
        pass_began_ = parts_.clock.steady_now();
    }
    // A request may end this run from here on: looked at before each piece, and by note() after it.
    if (from != 0) {
        report("verify-resumed", Severity::info,
               fmt::format("verify with {} resumes at {}", peer_node_, format_size(from)));
    }
    while (true) {
        std::uint64_t offset = 0;
        bool repair = false;
        {
            MutexLock lock(mutex_);
            if (stop_ || run_ != run) {
                return;
            }
            offset = record_.position;
            repair = record_.repair;
            pacer.set_rate(rate_of(record_.rate));
        }
        if (offset >= parts_.comparison.store.size()) {
            finish(run);
            return;
        }
        // A piece takes a while: the comparison looks at the session, note() at whether this run is
        // still wanted.
        const SteadyTime began = parts_.clock.steady_now();
        const Comparison::Piece piece = comparison.piece_at(offset);
        const auto findings = comparison.compare(piece, repair);
        if (!findings) {
            interrupted(findings.error().message, run);
            return;
        }
        if (!note(piece, *findings, run)) {
            return;
        }
        const std::uint64_t bytes = piece.hole ? 0 : piece.range.length;
        rest(pacer.rest_after(bytes, began, parts_.clock.steady_now()), run, comparison);
    }
}

bool Verify::note(const Comparison::Piece& piece, const std::vector<VerifyFinding>& findings,
                  unsigned run) {
    unsigned to_report = 0;
    bool must_save = false;
    {
        MutexLock lock(mutex_);
        if (run_ != run) {
            // Ended while the piece was compared. That a disk was mended is told all the same, once
            // the mutex is let go; the record is another run's.
            lock.unlock();
            for (const VerifyFinding& finding : findings) {
                if (finding.repaired) {
                    report_finding(finding);
                }
            }
            return false;
        }
        for (const VerifyFinding& finding : findings) {
            // What is listed is not lost in a crash; beyond, the count may be some seconds old.
            must_save = must_save || record_.ranges.size() < VerifyRecord::most_ranges;
            record_.add(finding);
            to_report += reported_++ < most_events ? 1U : 0U;
        }
        record_.position = piece.range.end();
        must_save = must_save || parts_.clock.steady_now() - saved_at_ >= save_period;
    }
    for (unsigned i = 0; i < to_report; ++i) {
        report_finding(findings[i]);
    }
    if (must_save) {
        save();
    }
    return true;
}

void Verify::report_finding(const VerifyFinding& finding) {
    const std::string where =
        fmt::format("{} at offset {} of {}", format_size(finding.range.length),
                    finding.range.offset, parts_.volume.name);
    const std::string what =
        finding.unreadable
            ? fmt::format("{} could not be read on {} or {}", where, parts_.node, peer_node_)
            : fmt::format("{} differ between {} and {}", where, parts_.node, peer_node_);
    if (finding.repaired) {
        report("verify-repaired", Severity::warning,
               fmt::format("{}; {} now has the blocks of {}", what, peer_node_, parts_.node),
               "a disk returned other data than was written, or another program wrote to a backing",
               "check the error counters of both disks");
        return;
    }
    report(
        "verify-mismatch", Severity::error, what,
        finding.cause.empty()
            ? "a disk returned other data than was written, or another program wrote to a backing"
            : finding.cause,
        fmt::format("find out which node's disk is bad; if that is {}: mirrorctl verify {} "
                    "--repair; if it is {}: switch first",
                    peer_node_, parts_.volume.name, parts_.node));
}

void Verify::finish(unsigned run) {
    VerifyRecord done;
    {
        MutexLock lock(mutex_);
        if (run_ != run) {
            return;
        }
        ++run_;
        record_.state = VerifyState::finished;
        record_.last_finished = parts_.clock.wall_now();
        record_.last_mismatched_bytes = record_.mismatched_bytes;
        record_.last_repaired_bytes = record_.repaired_bytes;
        pass_began_.reset();
        done = record_;
    }
    save();
    const std::string size = format_size(done.size);
    if (done.mismatched_bytes == 0) {
        report("verify-finished", Severity::info,
               fmt::format("all {} are equal on {} and {}", size, parts_.node, peer_node_));
    } else if (done.left_bytes() == 0) {
        report("verify-finished", Severity::warning,
               fmt::format("{} of {} differed on {} and were repaired",
                           format_size(done.mismatched_bytes), size, peer_node_),
               "a disk returned other data than was written, or another program wrote to a backing",
               "check the error counters of both disks");
    } else {
        report("verify-finished", Severity::error,
               fmt::format("{} of {} differ between {} and {}", format_size(done.left_bytes()),
                           size, parts_.node, peer_node_),
               "a disk returned other data than was written, or another program wrote to a backing",
               fmt::format("mirrorctl status {} has the ranges; mirrorctl verify {} --repair sends "
                           "the blocks of {}",
                           parts_.volume.name, parts_.volume.name, parts_.node));
    }
}

void Verify::interrupted(const std::string& why, unsigned run) {
    // The membership knows better why its session ended.
    const std::string known = obstacle();
    const std::string cause = known.empty() ? why : known;
    std::uint64_t position = 0;
    {
        MutexLock lock(mutex_);
        position = record_.position;
        if (stop_ || run_ != run) {
            return;  // who stopped it, or began another, has said so
        }
        pass_began_.reset();
    }
    save();
    report("verify-interrupted", Severity::info,
           fmt::format("verify with {} paused at {}", peer_node_, format_size(position)), cause,
           "nothing: it resumes when the mirror is in sync again");
}

void Verify::rest(Pacer::Duration time, unsigned run, const Comparison& comparison) {
    const SteadyTime until = std::chrono::steady_clock::now() + time;
    while (comparison.in_sync()) {
        // Whatever changes meanwhile: run_pass() looks again at all of it.
        MutexLock lock(mutex_);
        const SteadyTime now = std::chrono::steady_clock::now();
        if (stop_ || run_ != run || now >= until || std::exchange(hurry_, false)) {
            return;
        }
        wake_.wait_until(lock, std::min<SteadyTime>(until, now + look_while_waiting));
    }
}

std::string Verify::obstacle() const {
    const Membership::View view = parts_.comparison.membership.view();
    return view.mode == MirrorMode::in_sync && !view.local_failed ? "" : view.why;
}

void Verify::save() {
    {
        MutexLock saving(saving_mutex_);
        VerifyRecord record;
        {
            MutexLock lock(mutex_);
            record = record_;
            saved_at_ = parts_.clock.steady_now();
        }
        // Who changes the record meanwhile saves it again after this.
        if (auto saved = save_verify_record(parts_.path, record); !saved) {
            log(LogLevel::warning, "volume {}: the progress of verify can't be saved: {}",
                parts_.volume.name, saved.error().text());
        }
    }
    tell_peer();
}

void Verify::tell_peer() {
    {
        MutexLock lock(mutex_);
        if (std::exchange(telling_, true)) {
            tell_again_ = true;
            return;
        }
    }
    do {
        tell_once();
    } while (must_tell_again());
    hint();  // another session may have got in sync meanwhile
}

bool Verify::must_tell_again() {
    MutexLock lock(mutex_);
    telling_ = std::exchange(tell_again_, false);
    return telling_;
}

void Verify::tell_once() {
    const Membership::Parties parties = parts_.comparison.membership.parties();
    if (!parties.session || parties.mode != MirrorMode::in_sync || parties.session->is_lost()) {
        return;
    }
    VerifyRecord record;
    {
        MutexLock lock(mutex_);
        record = record_;
        told_ = parties.session->id();
    }
    // The session may end meanwhile: then told_ is not the next one's. A record that is changed
    // meanwhile is told after this. Only a copy for the day on which the peer is active: without
    // it, a comparison begins anew.
    if (auto told = parties.session->tell_verify(encode(record)); !told) {
        log(LogLevel::info, "volume {}: {} did not store the result of verify: {}",
            parts_.volume.name, peer_node_, told.error().message);
    }
}

void Verify::report(const std::string& id, Severity severity, const std::string& text,
                    const std::string& cause, const std::string& remedy) {
    parts_.events.record({.id = id,
                          .severity = severity,
                          .volume = parts_.volume.name,
                          .text = text,
                          .cause = cause,
                          .remedy = remedy});
}

}  // namespace mirror
