// SPDX-License-Identifier: BSD-3-Clause
// How many clients a volume has. nbdkit notices the end of a connection a moment after the client
// has closed it: who unmounts and demotes at once must not be told that somebody uses the volume.
// Any thread.
#pragma once

#include <chrono>

#include "core/base/sync.hpp"

namespace mirror {

class ClientCount {
  public:
    void opened() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        ++count_;
    }
    void closed() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        --count_;
        none_.notify_all();
    }
    [[nodiscard]] int count() const EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        return count_;
    }
    /// How many are left when the last one has gone, or after `patience`.
    [[nodiscard]] int wait_none(std::chrono::milliseconds patience) EXCLUDES(mutex_) {
        const auto deadline = std::chrono::steady_clock::now() + patience;
        MutexLock lock(mutex_);
        while (count_ > 0 && none_.wait_until(lock, deadline) == std::cv_status::no_timeout) {
        }
        return count_;
    }

  private:
    mutable Mutex mutex_;
    CondVar none_;  ///< count_ went down
    int count_ GUARDED_BY(mutex_) = 0;
};

}  // namespace mirror
