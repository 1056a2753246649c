// SPDX-License-Identifier: BSD-3-Clause
// Group commit of flushes: whoever comes while one runs waits for the next one, which serves all
// who have come by then. One that has begun is never joined, since it may have passed by what was
// written just before. Who comes alone waits for nobody. Any thread.
#pragma once

#include <functional>
#include <memory>

#include "core/base/error.hpp"
#include "core/base/sync.hpp"

namespace mirror {

class SharedFlush {
  public:
    /// The result of a run of `flush` that began after this call.
    [[nodiscard]] Result<void> run(const std::function<Result<void>()>& flush) EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        if (!next_) {
            next_ = std::make_shared<Round>();
        }
        const std::shared_ptr<Round> mine = next_;
        while (running_ && !mine->done) {
            changed_.wait(lock);
        }
        if (!mine->done) {
            running_ = true;
            next_.reset();
            lock.unlock();
            Result<void> result = flush();
            lock.lock();
            mine->result = std::move(result);
            mine->done = true;
            running_ = false;
            changed_.notify_all();
        }
        return mine->result;
    }

  private:
    struct Round {
        bool done = false;
        Result<void> result;
    };

    Mutex mutex_;
    CondVar changed_;
    bool running_ GUARDED_BY(mutex_) = false;
    std::shared_ptr<Round> next_ GUARDED_BY(mutex_);  ///< it has not begun
};

}  // namespace mirror
