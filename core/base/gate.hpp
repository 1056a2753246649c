// SPDX-License-Identifier: BSD-3-Clause
// Lets work in until it is closed, then waits for what is inside: for the end of a role. It can be
// held too: who comes then waits until the gate is let go or closed. Many threads enter; one
// closes.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include "core/base/sync.hpp"

namespace mirror {

class Gate {
  public:
    /// Being inside, for as long as it lives. False when the gate was closed.
    class Pass {
      public:
        Pass() = default;
        explicit Pass(Gate& gate) : gate_(&gate) {}
        Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
        Pass& operator=(Pass&&) = delete;
        ~Pass() {
            if (gate_ != nullptr) {
                gate_->leave();
            }
        }
        explicit operator bool() const noexcept { return gate_ != nullptr; }

      private:
        Gate* gate_ = nullptr;
    };

    [[nodiscard]] Pass enter() {
        MutexLock lock(mutex_);
        while (held_ && !closed_) {
            let_go_.wait(lock);
        }
        if (closed_) {
            return Pass();
        }
        ++inside_;
        return Pass(*this);
    }
    /// As enter(), for a caller that must not wait: false also while the gate is held.
    [[nodiscard]] Pass try_enter() {
        MutexLock lock(mutex_);
        if (held_ || closed_) {
            return Pass();
        }
        ++inside_;
        return Pass(*this);
    }
    /// No one enters from now on.
    void close() {
        MutexLock lock(mutex_);
        closed_ = true;
        let_go_.notify_all();
    }
    /// Who enters from now on waits. False when what is inside did not leave in time.
    [[nodiscard]] bool hold(std::chrono::steady_clock::time_point until) {
        MutexLock lock(mutex_);
        held_ = true;
        while (inside_ != 0) {
            if (empty_.wait_until(lock, until) == std::cv_status::timeout) {
                return inside_ == 0;
            }
        }
        return true;
    }
    void let_go() {
        MutexLock lock(mutex_);
        held_ = false;
        let_go_.notify_all();
    }
    void wait_until_empty() {
        MutexLock lock(mutex_);
        while (inside_ != 0) {
            empty_.wait(lock);
        }
    }

  private:
    void leave() {
        MutexLock lock(mutex_);
        if (--inside_ == 0 && (closed_ || held_)) {
            empty_.notify_all();
        }
    }

    Mutex mutex_;
    bool closed_ GUARDED_BY(mutex_) = false;
    std::uint64_t inside_ GUARDED_BY(mutex_) = 0;
    bool held_ GUARDED_BY(mutex_) = false;
    CondVar empty_;
    CondVar let_go_;
};

}  // namespace mirror
