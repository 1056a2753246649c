// SPDX-License-Identifier: BSD-3-Clause
// Mutex, lock and condition variable that clang's thread-safety analysis understands
// (https://clang.llvm.org/docs/ThreadSafetyAnalysis.html); gcc ignores the annotations. The
// standard types carry none with libstdc++.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define MIRROR_TSA(x) __attribute__((x))
#else
#define MIRROR_TSA(x)
#endif
#define GUARDED_BY(x) MIRROR_TSA(guarded_by(x))
#define REQUIRES(...) MIRROR_TSA(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) MIRROR_TSA(locks_excluded(__VA_ARGS__))

namespace mirror {

class MIRROR_TSA(capability("mutex")) Mutex {
  public:
    Mutex() = default;
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

    void lock() MIRROR_TSA(acquire_capability()) { inner_.lock(); }
    void unlock() MIRROR_TSA(release_capability()) { inner_.unlock(); }

  private:
    friend class MutexLock;
    std::mutex inner_;
};

/// Holds a Mutex for a scope; may let go and take it again in between.
class MIRROR_TSA(scoped_lockable) MutexLock {
  public:
    explicit MutexLock(Mutex& mutex) MIRROR_TSA(acquire_capability(mutex)) : lock_(mutex.inner_) {}
    ~MutexLock() MIRROR_TSA(release_capability()) = default;
    MutexLock(const MutexLock&) = delete;
    MutexLock& operator=(const MutexLock&) = delete;

    void unlock() MIRROR_TSA(release_capability()) { lock_.unlock(); }
    void lock() MIRROR_TSA(acquire_capability()) { lock_.lock(); }

  private:
    friend class CondVar;
    std::unique_lock<std::mutex> lock_;
};

/// Waits while a MutexLock is held. Callers loop over their own condition, so that the analysis
/// sees guarded fields read under the lock: while (!ready_) { cond_.wait(lock); }
class CondVar {
  public:
    void wait(MutexLock& lock) { inner_.wait(lock.lock_); }

    template <typename Clock, typename Duration>
    std::cv_status wait_until(MutexLock& lock, std::chrono::time_point<Clock, Duration> deadline) {
        return inner_.wait_until(lock.lock_, deadline);
    }
    template <typename Rep, typename Period>
    std::cv_status wait_for(MutexLock& lock, std::chrono::duration<Rep, Period> time) {
        return inner_.wait_until(lock.lock_, std::chrono::steady_clock::now() + time);
    }
    void notify_one() noexcept { inner_.notify_one(); }
    void notify_all() noexcept { inner_.notify_all(); }

  private:
    std::condition_variable inner_;
};

}  // namespace mirror
