// SPDX-License-Identifier: BSD-3-Clause
// VolumeKeeper: the engine's start, end and restart after an unexpected death.
#include <algorithm>
#include <array>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/log.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds first_backoff{200};
constexpr milliseconds longest_backoff{10000};
/// An engine that lived this long starts again with the shortest back-off.
constexpr milliseconds settled_life{5000};
/// Reading the maps of a large volume and locking its files come before readiness.
constexpr milliseconds start_deadline{30000};

}  // namespace

Result<void> VolumeKeeper::start_engine(const Operation&) {
    auto engine =
        EngineProcess::spawn({name(), node(), lives().engine_config(context_.used().tls), paths_});
    if (!engine) {
        return Failure(engine.error().within(fmt::format("the engine of {}", name())));
    }
    client_.forget();
    // Up to start_deadline without the mutex: the operation keeps everybody else from the place.
    // Clients may find the socket earlier than this does, and be answered: see roll_back() of
    // promote.cpp.
    if (auto ready = wait_ready(**engine); !ready) {
        if (auto killed = (*engine)->kill_and_wait(); !killed) {
            log(LogLevel::error, "{}: {}", name(), killed.error().text());
        }
        remove_engine_files(paths_);
        return ready;
    }
    MutexLock lock(mutex_);
    engine_ = std::move(*engine);
    engine_started_ = context_.clock.steady_now();
    engine_has_run_ = true;
    settings_told_ = false;
    waits_for_peer_ = false;
    place_ = Place::active;
    failure_.clear();
    death_noted_ = false;
    return {};
}

Result<void> VolumeKeeper::wait_ready(EngineProcess& engine) {
    const SteadyTime deadline = std::chrono::steady_clock::now() + start_deadline;
    constexpr milliseconds step{10};
    Error last{ErrorKind::timed_out, "it does not serve"};
    while (!engine.wait_dead(step)) {
        // Before its express door is there an answer could only come from the other one.
        if (has_pid_file(paths_, engine.pid()) && paths_.device_socket() == paths_.express) {
            auto answer = client_.status();
            if (answer) {
                return {};
            }
            last = answer.error();
        }
        if (std::chrono::steady_clock::now() > deadline) {
            return fail(ErrorKind::timed_out, "the engine of {} did not get ready in {}: {}",
                        name(), format_duration(start_deadline), last.message);
        }
    }
    const std::string end = engine.end_reason();
    const auto reason = read_engine_error(paths_);
    Error error{
        ErrorKind::io,
        fmt::format("the engine of {} did not start: {}", name(),
                    reason ? *reason : fmt::format("{} ended with {}", nbdkit_program(), end))};
    if (!reason && ::access(plugin_path().c_str(), R_OK) != 0) {
        error.message += fmt::format("; {} is missing", plugin_path());
        error.remedy = fmt::format("install the package mirrordisk again on {}", node());
    }
    return Failure(std::move(error));
}

Result<void> VolumeKeeper::end_engine(const Operation&, std::chrono::seconds patience) {
    std::shared_ptr<EngineProcess> engine;
    {
        MutexLock lock(mutex_);
        engine = engine_;
        place_ = Place::changing;
    }
    // The operation is held: no other engine comes meanwhile.
    if (engine) {
        if (auto killed = engine->kill_and_wait(patience); !killed) {
            MutexLock lock(mutex_);
            place_ = Place::active;
            return killed;
        }
    }
    client_.forget();
    remove_engine_files(paths_);
    MutexLock lock(mutex_);
    engine_.reset();
    return {};
}

void VolumeKeeper::abandon_engine(const Operation&, const std::string& why) {
    log(LogLevel::warning, "{}: {}", name(), why);
    client_.forget();
    remove_engine_files(paths_);
    MutexLock lock(mutex_);
    engine_.reset();
    place_ = Place::changing;
}

void VolumeKeeper::wake() noexcept {
    const std::uint64_t one = 1;
    // A full counter means that it is awake already.
    (void)!::write(wake_.get(), &one, sizeof one);
}

void VolumeKeeper::supervise() {
    for (;;) {
        std::shared_ptr<EngineProcess> engine;
        const milliseconds sleep = tick();
        {
            MutexLock lock(mutex_);
            if (stopping_) {
                return;
            }
            // While somebody else decides about the engine its death is nothing to wake up for: the
            // descriptor would stay readable. The operation's end wakes us.
            if (place_ == Place::active && !death_noted_ && may_act()) {
                engine = engine_;
            }
        }
        std::array<pollfd, 2> watched{pollfd{wake_.get(), POLLIN, 0},
                                      pollfd{engine ? engine->death_fd() : -1, POLLIN, 0}};
        (void)::poll(watched.data(), watched.size(), static_cast<int>(sleep.count()));
        std::uint64_t count = 0;
        (void)!::read(wake_.get(), &count, sizeof count);
    }
}

milliseconds VolumeKeeper::tick() {
    constexpr milliseconds until_woken{-1};
    if (waits_for_peer()) {
        const auto left = resume_due();
        if (!left || left->count() > 0) {
            return left.value_or(until_woken);
        }
        // A demotion may have come to its end since the look above.
        if (const auto operation = begin(restart_name); operation && waits_for_peer()) {
            resume(*operation);
        }
        return milliseconds(0);
    }
    if (is_served()) {
        const auto device = look_after_device();
        const auto settings = tell_settings();
        return device && settings ? std::min(*device, *settings)
                                  : device.value_or(settings.value_or(until_woken));
    }
    std::optional<std::string> end;
    milliseconds left{0};
    {
        MutexLock lock(mutex_);
        if (place_ != Place::active || stopping_ || !may_act()) {
            return until_woken;  // the operation's end wakes us
        }
        if (engine_ && engine_->is_running()) {
            return milliseconds(0);
        }
        if (!death_noted_) {
            end = note_engine_death();
        }
        left = std::chrono::ceil<milliseconds>(restart_due_ - context_.clock.steady_now());
    }
    if (end) {
        record("engine-died", Severity::error,
               fmt::format("the engine of {} on {} died unexpectedly", name(), node()), *end,
               fmt::format("it is started again in {}", format_duration(left)));
    }
    if (left.count() > 0) {
        return left;
    }
    // Without the mutex a demotion or another start may have come to its end: only under the
    // operation it is certain that a dead engine is what there is.
    if (const auto operation = begin_restart(); operation && lacks_engine()) {
        restart_engine(*operation);
    }
    return milliseconds(0);
}

bool VolumeKeeper::may_act() const {
    return operation_.empty() || is_lent_;
}

bool VolumeKeeper::lacks_engine() const {
    MutexLock lock(mutex_);
    return place_ == Place::active && !stopping_ && !(engine_ && engine_->is_running());
}

/// An engine runs, and nobody is changing that. It may die at once: what asks it fails then.
bool VolumeKeeper::is_served() const {
    MutexLock lock(mutex_);
    return place_ == Place::active && !stopping_ && may_act() && engine_ && engine_->is_running();
}

VolumeKeeper::Supervision::Supervision(VolumeKeeper& keeper, const Operation&) : keeper_(keeper) {
    MutexLock lock(keeper_.mutex_);
    keeper_.is_lent_ = true;
    lock.unlock();
    keeper_.wake();
}

VolumeKeeper::Supervision::~Supervision() {
    MutexLock lock(keeper_.mutex_);
    keeper_.is_lent_ = false;
    while (keeper_.is_borrowed_) {
        keeper_.changed_.wait(lock);
    }
}

Result<VolumeKeeper::Operation> VolumeKeeper::begin_restart() {
    MutexLock lock(mutex_);
    if (is_lent_) {
        is_borrowed_ = true;
        return Operation(*this, true);
    }
    lock.unlock();
    return begin(restart_name);
}

void VolumeKeeper::end_restart() noexcept {
    MutexLock lock(mutex_);
    is_borrowed_ = false;
    changed_.notify_all();
}

std::string VolumeKeeper::note_engine_death() {
    const SteadyTime now = context_.clock.steady_now();
    if (now - engine_started_ >= settled_life) {
        backoff_ = milliseconds(0);
    }
    backoff_ = std::clamp(backoff_ * 2, first_backoff, longest_backoff);
    restart_due_ = now + backoff_;
    // One that dies again and again serves nobody, however soon the next one starts.
    restarts_soon_ = backoff_ <= 2 * first_backoff;
    death_noted_ = true;
    note_device_without_engine();
    std::string end = engine_ ? engine_->end_reason() : "unknown";
    failure_ = fmt::format("the engine of {} died ({}) and is started again", name(), end);
    advice_ = fmt::format(
        "nothing, if that lasts only a moment; the reason is in: mirrorctl events {}", name());
    return end;
}

void VolumeKeeper::restart_engine(const Operation& operation) {
    // Another mirrord's start of the engine may have come to its end meanwhile.
    if (auto engine = EngineProcess::adopt(paths_, node())) {
        MutexLock lock(mutex_);
        engine_ = std::move(engine);
        engine_started_ = context_.clock.steady_now();
        engine_has_run_ = true;
        settings_told_ = false;
        death_noted_ = false;
        failure_.clear();
        return;
    }
    auto started = open_standby(operation);
    if (started && mirrord_was_away()) {
        started = wait_for_peer(operation);
        if (started) {
            return resume(operation);
        }
        close_replica(operation);
    } else if (started) {
        // Where it can't be asked nobody took over that we know of, and this node was active last.
        // Until the engine runs the peer gets no agreement, and the superblock says active, so that
        // no session begins here.
        const auto replaced = ask_whether_replaced();
        if (replaced && *replaced) {
            return stay_standby(operation, **replaced);
        }
        close_replica(operation);
        started = start_engine(operation);
    }
    if (started) {
        record("engine-restarted", Severity::info,
               fmt::format("the engine of {} runs again on {}", name(), node()));
        return;
    }
    engine_start_failed(started.error());
}

void VolumeKeeper::leave_start_to_supervisor(const Operation&, const Error& error) {
    engine_start_failed(error);
}

void VolumeKeeper::engine_start_failed(const Error& error) {
    MutexLock lock(mutex_);
    const bool is_news = failure_ != error.message;
    place_ = Place::active;
    death_noted_ = true;
    restarts_soon_ = false;
    waits_for_peer_ = false;  // until its files are open again
    failure_ = error.message;
    advice_ = error.remedy;
    backoff_ = std::clamp(backoff_ * 2, first_backoff, longest_backoff);
    restart_due_ = context_.clock.steady_now() + backoff_;
    lock.unlock();
    if (is_news) {
        record("engine-start-failed", Severity::error,
               fmt::format("the engine of {} can't be started on {}", name(), node()),
               error.message, error.remedy);
    }
}

}  // namespace mirror::daemon
