// SPDX-License-Identifier: BSD-3-Clause
// Threads for work that may wait: a disk, a lock, a peer. There is always a thread for each job
// that was handed over, since jobs may wait for each other (a write for the range of another one),
// and a queue behind such a job could wait for ever. So whoever hands over work bounds how much of
// it there is; here nothing is bounded. Idle threads end after a while, but for a few.
//
// run() from any thread, from a job too; start() and stop() from the owner.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <string>

#include "core/base/error.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"

namespace mirror {

class WorkerPool {
  public:
    using Job = std::function<void()>;

    /// `name`: of the threads, at most 15 bytes.
    explicit WorkerPool(std::string name) : name_(std::move(name)) {}
    ~WorkerPool();  ///< stops
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;

    /// The first thread, so that a machine without room for one says so at the start.
    [[nodiscard]] Result<void> start() EXCLUDES(mutex_);
    /// Where no thread can be had any more the job waits for one that gets free.
    void run(Job job) EXCLUDES(mutex_);
    /// Waits for all jobs, those that they hand over included. No new ones may come from outside.
    void stop() EXCLUDES(mutex_);

    [[nodiscard]] std::size_t threads() const EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        return alive_;
    }

  private:
    using Threads = std::list<Thread>;

    [[nodiscard]] Result<void> add_thread() REQUIRES(mutex_);
    void serve(Threads::iterator self) noexcept EXCLUDES(mutex_);
    /// False when this thread is to end.
    [[nodiscard]] bool wait_for_job(MutexLock& lock) REQUIRES(mutex_);

    const std::string name_;
    mutable Mutex mutex_;
    CondVar work_;
    CondVar ended_one_;
    std::deque<Job> jobs_ GUARDED_BY(mutex_);
    std::size_t alive_ GUARDED_BY(mutex_) = 0;
    std::size_t idle_ GUARDED_BY(mutex_) = 0;  ///< those that were woken and have no job yet too
    bool stopping_ GUARDED_BY(mutex_) = false;
    Threads threads_ GUARDED_BY(mutex_);
    Threads ended_ GUARDED_BY(mutex_);  ///< to be joined: no thread can join itself
};

}  // namespace mirror
