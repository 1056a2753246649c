// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/turn.hpp"

#include <utility>

#include "core/base/start_thread.hpp"

namespace mirror::nbd {
namespace {

constexpr bool in_a_wait(std::uint64_t state) {
    return state % 2 == 1;
}

}  // namespace

Turn::~Turn() {
    stop();
}

Result<void> Turn::start() {
    auto started = start_thread("express-watch", [this] { watch(); });
    if (!started) {
        return Failure(started.error());
    }
    watcher_ = std::move(*started);
    return {};
}

void Turn::stop() {
    {
        MutexLock lock(mutex_);
        stopping_ = true;
        wake_.notify_all();
    }
    if (watcher_.joinable()) {
        watcher_.join();
    }
}

std::uint64_t Turn::begin_wait() noexcept {
    const std::uint64_t wait = state_.fetch_add(1) + 1;
    // The watcher says that it sleeps before it looks at the state for the last time, so one of
    // the two sees the other.
    if (asleep_.load()) {
        MutexLock lock(mutex_);
        asleep_.store(false);
        wake_.notify_all();
    }
    return wait;
}

bool Turn::end_wait(std::uint64_t wait) noexcept {
    return state_.compare_exchange_strong(wait, wait + 1);
}

void Turn::watch() {
    std::uint64_t seen = 0;
    std::chrono::milliseconds slow_left{0};
    MutexLock lock(mutex_);
    while (!stopping_) {
        wake_.wait_for(lock, tick);
        std::uint64_t state = state_.load();
        if (in_a_wait(state) && state == seen && state_.compare_exchange_strong(state, state + 1)) {
            ++state;
            slow_.store(true);
            slow_left = slow_for;
            lock.unlock();
            take_over_();
            lock.lock();
        } else if (slow_left.count() > 0) {
            slow_left -= tick;
            slow_.store(slow_left.count() > 0);
        } else if (state == seen && !in_a_wait(state)) {
            sleep_if_idle(lock, seen);
        }
        seen = state;
    }
}

void Turn::sleep_if_idle(MutexLock& lock, std::uint64_t seen) {
    asleep_.store(true);
    if (state_.load() != seen) {
        asleep_.store(false);
        return;
    }
    while (asleep_.load() && !stopping_) {
        wake_.wait(lock);
    }
}

}  // namespace mirror::nbd
