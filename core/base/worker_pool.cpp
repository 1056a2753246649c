// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/worker_pool.hpp"

#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

#include "core/base/log.hpp"
#include "core/base/start_thread.hpp"

namespace mirror {
namespace {

/// Threads that stay however little there is to do.
constexpr std::size_t kept_idle = 1;
constexpr std::chrono::seconds idle_life{10};

}  // namespace

WorkerPool::~WorkerPool() {
    stop();
}

Result<void> WorkerPool::start() {
    MutexLock lock(mutex_);
    return add_thread();
}

void WorkerPool::run(Job job) {
    Threads ended;
    {
        MutexLock lock(mutex_);
        jobs_.push_back(std::move(job));
        ended.splice(ended.end(), ended_);
        if (jobs_.size() <= idle_) {
            work_.notify_one();
        } else if (auto added = add_thread(); !added) {
            log(LogLevel::warning, "{}: work waits for a thread: {}", name_, added.error().message);
        }
    }
    for (Thread& thread : ended) {
        thread.join();
    }
}

void WorkerPool::stop() {
    MutexLock lock(mutex_);
    stopping_ = true;
    work_.notify_all();
    while (alive_ != 0) {
        ended_one_.wait(lock);
    }
    Threads ended = std::move(ended_);
    lock.unlock();
    for (Thread& thread : ended) {
        thread.join();
    }
}

/// Throws nothing: the job for which it is wanted is in the queue already.
Result<void> WorkerPool::add_thread() {
    Threads one;
    try {
        one.emplace_back();
    } catch (const std::bad_alloc&) {
        return fail_errno(ENOMEM, "a thread's entry");
    }
    const auto self = one.begin();
    threads_.splice(threads_.end(), one);
    auto started = start_thread(name_, [this, self] { serve(self); });
    if (!started) {
        threads_.erase(self);
        return Failure(started.error());
    }
    *self = std::move(*started);
    ++alive_;
    return {};
}

bool WorkerPool::wait_for_job(MutexLock& lock) {
    const auto until = std::chrono::steady_clock::now() + idle_life;
    ++idle_;
    while (jobs_.empty() && !stopping_) {
        if (idle_ <= kept_idle) {
            work_.wait(lock);
        } else if (work_.wait_until(lock, until) == std::cv_status::timeout && jobs_.empty()) {
            break;
        }
    }
    --idle_;
    return !jobs_.empty();
}

void WorkerPool::serve(Threads::iterator self) noexcept {
    MutexLock lock(mutex_);
    while (!jobs_.empty() || wait_for_job(lock)) {
        Job job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job();
        job = nullptr;
        lock.lock();
    }
    ended_.splice(ended_.end(), threads_, self);
    --alive_;
    ended_one_.notify_all();
}

}  // namespace mirror
