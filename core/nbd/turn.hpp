// SPDX-License-Identifier: BSD-3-Clause
// Whose turn it is to run a loop. Its thread does itself what mostly takes no time, a write into
// the page cache, since handing it to another thread costs more than doing it. When that does take
// time (a disk that is slow, or hangs), a watching thread gives the loop to somebody else; the one
// that waited finds out when it comes back, and leaves.
//
// begin_wait() and end_wait() are the loop's thread's; start() and stop() the owner's. It owns the
// watching thread, which sleeps while nothing happens.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

#include "core/base/error.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"

namespace mirror::nbd {

class Turn {
  public:
    /// A wait is noticed when it has lasted between one and two of these: longer than a thread of a
    /// busy machine mostly waits for its processor.
    static constexpr std::chrono::milliseconds tick{10};
    /// For so long after one was noticed nothing that may wait is done by the loop's thread.
    static constexpr std::chrono::milliseconds slow_for{1000};

    /// `take_over` finds another thread for the loop; called by the watching thread.
    explicit Turn(std::function<void()> take_over) : take_over_(std::move(take_over)) {}
    ~Turn();  ///< stops
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    [[nodiscard]] Result<void> start();
    /// Nobody takes over any more.
    void stop() EXCLUDES(mutex_);

    /// Names this wait.
    [[nodiscard]] std::uint64_t begin_wait() noexcept EXCLUDES(mutex_);
    /// False: the loop is somebody else's now.
    [[nodiscard]] bool end_wait(std::uint64_t wait) noexcept;
    /// Something had to wait a moment ago.
    [[nodiscard]] bool is_slow() const noexcept { return slow_.load(std::memory_order_relaxed); }
    /// Nothing has happened for a while: only the next wait wakes the watching thread.
    [[nodiscard]] bool watcher_sleeps() const EXCLUDES(mutex_) {
        MutexLock lock(mutex_);  // held by the watching thread until it does sleep
        return asleep_.load();
    }

  private:
    void watch() EXCLUDES(mutex_);
    void sleep_if_idle(MutexLock& lock, std::uint64_t seen) REQUIRES(mutex_);

    const std::function<void()> take_over_;
    /// Counts up by one whenever a wait begins, ends, or is taken over; odd: somebody is in one.
    std::atomic<std::uint64_t> state_{0};
    std::atomic<bool> slow_{false};
    std::atomic<bool> asleep_{false};

    mutable Mutex mutex_;
    CondVar wake_;
    bool stopping_ GUARDED_BY(mutex_) = false;
    Thread watcher_;
};

}  // namespace mirror::nbd
