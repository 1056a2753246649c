// SPDX-License-Identifier: BSD-3-Clause
// The peer's half of a request whose other half is being done here meanwhile.
#pragma once

#include <utility>

#include "core/base/error.hpp"
#include "core/base/sync.hpp"
#include "core/nbd/link.hpp"

namespace mirror {

class PeerLeg {
  public:
    /// To be handed to the link; this object must outlive the call.
    [[nodiscard]] nbd::Link::Completion completion() {
        return [this](Result<void> result) {
            MutexLock lock(mutex_);
            result_ = std::move(result);
            answered_ = true;
            // Under the mutex: the waiter may destroy this object as soon as it gets it.
            changed_.notify_one();
        };
    }
    [[nodiscard]] Result<void> wait() {
        MutexLock lock(mutex_);
        while (!answered_) {
            changed_.wait(lock);
        }
        return std::move(result_);
    }

  private:
    Mutex mutex_;
    CondVar changed_;
    bool answered_ GUARDED_BY(mutex_) = false;
    Result<void> result_ GUARDED_BY(mutex_);
};

}  // namespace mirror
