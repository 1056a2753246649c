// SPDX-License-Identifier: BSD-3-Clause
// A thread that looks after something again and again, at once and then after each period: what may
// hang (a file, a disk) hangs there and nowhere else. Owned by one watch; its last member, so that
// the thread has ended before anything that it uses.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"

namespace mirror {

class Periodic {
  public:
    Periodic() = default;
    ~Periodic() { stop(); }
    Periodic(const Periodic&) = delete;
    Periodic& operator=(const Periodic&) = delete;

    /// `look` is called from the thread, without a lock held.
    [[nodiscard]] Result<void> start(const std::string& name, std::chrono::milliseconds period,
                                     std::function<void()> look);
    /// Waits until `look` has returned. Idempotent.
    void stop() EXCLUDES(mutex_);

  private:
    void run(std::chrono::milliseconds period, const std::function<void()>& look) EXCLUDES(mutex_);

    Mutex mutex_;
    CondVar stopped_;
    bool stopping_ GUARDED_BY(mutex_) = false;
    Thread thread_;
};

}  // namespace mirror
