// SPDX-License-Identifier: BSD-3-Clause
// Group commit of flushes: whoever comes while one runs waits for the next one, which serves all
// who have come by then. One that has begun is never joined, since it may have passed by what was
// written just before. Who comes alone waits for nobody. Any thread; keeps its memory.
#pragma once

#include <utility>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/sync.hpp"

namespace mirror {

class SharedFlush {
  public:
    /// The result of a run of `flush` that began after this call. Runs are one at a time.
    template <typename Flush>
    [[nodiscard]] Result<void> run(const Flush& flush) EXCLUDES(mutex_) {
        Waiter mine;
        MutexLock lock(mutex_);
        waiting_.push_back(&mine);
        while (running_ && !mine.done) {
            changed_.wait(lock);
        }
        if (!mine.done) {
            running_ = true;
            served_.swap(waiting_);
            lock.unlock();
            const Result<void> result = flush();
            lock.lock();
            for (Waiter* each : served_) {
                each->result = result;
                each->done = true;
            }
            served_.clear();
            running_ = false;
            changed_.notify_all();
        }
        return std::move(mine.result);
    }

  private:
    /// On its caller's stack; read and written under the mutex.
    struct Waiter {
        bool done = false;
        Result<void> result;
    };

    Mutex mutex_;
    CondVar changed_;
    bool running_ GUARDED_BY(mutex_) = false;
    std::vector<Waiter*> waiting_ GUARDED_BY(mutex_);
    std::vector<Waiter*> served_ GUARDED_BY(mutex_);  ///< by the run
};

}  // namespace mirror
