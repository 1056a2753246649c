// SPDX-License-Identifier: BSD-3-Clause
// The way back into a loop: requests that other threads have brought further, and a bell for the
// loop's thread where it sleeps in epoll_wait. Owns the bell's descriptor.
//
// post() and ring() from any thread; the rest is the loop's. The bell is meant for edge-triggered
// epoll: it is never read.
#pragma once

#include <sys/eventfd.h>

#include "core/base/fd.hpp"
#include "core/base/sync.hpp"
#include "core/nbd/async_export.hpp"

namespace mirror::nbd {

class ReadyQueue {
  public:
    ReadyQueue() : bell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
    ReadyQueue(const ReadyQueue&) = delete;
    ReadyQueue& operator=(const ReadyQueue&) = delete;

    /// -1: there was no descriptor for it.
    [[nodiscard]] int bell() const noexcept { return bell_.get(); }

    void post(AsyncRequest& request) noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        request.next_ready_ = nullptr;
        (last_ != nullptr ? last_->next_ready_ : first_) = &request;
        last_ = &request;
        ring_if_asleep();
    }
    void ring() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        rung_ = true;
        ring_if_asleep();
    }

    /// All of them, as a chain in the order in which they came; null: none.
    [[nodiscard]] AsyncRequest* take_all() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        asleep_ = false;
        rung_ = false;
        AsyncRequest* const all = first_;
        first_ = last_ = nullptr;
        return all;
    }
    [[nodiscard]] static AsyncRequest* after(const AsyncRequest& request) noexcept {
        return request.next_ready_;
    }
    /// Whether the loop may sleep: if so, the bell rings for whatever comes.
    [[nodiscard]] bool may_sleep() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        asleep_ = first_ == nullptr && !rung_;
        return asleep_;
    }

    /// The loop is back from its sleep: what comes now it will look for, without a bell.
    void wake() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        asleep_ = false;
    }

  private:
    void ring_if_asleep() noexcept REQUIRES(mutex_) {
        if (asleep_) {
            asleep_ = false;
            ::eventfd_write(bell_.get(), 1);
        }
    }

    const Fd bell_;
    Mutex mutex_;
    AsyncRequest* first_ GUARDED_BY(mutex_) = nullptr;
    AsyncRequest* last_ GUARDED_BY(mutex_) = nullptr;
    bool rung_ GUARDED_BY(mutex_) = false;
    bool asleep_ GUARDED_BY(mutex_) = false;
};

}  // namespace mirror::nbd
