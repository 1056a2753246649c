// SPDX-License-Identifier: BSD-3-Clause
#include "tests/bench/flush_each.hpp"

#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace mirror::nbd::bench {

thread_local std::size_t requests_of_flush = 1;

namespace {

/// As nbdkit's, whose `file` plugin is what a mirror without a server of its own would write to.
constexpr std::size_t threads = 16;

int sync(int fd) noexcept {
    return ::syscall(SYS_fdatasync, fd) == 0 ? 0 : errno;
}

class Pool {
  public:
    Pool() {
        for (std::size_t i = 0; i < threads; ++i) {
            std::thread([this] { serve(); }).detach();
        }
    }

    /// The first error of `count` calls at the same time, or 0.
    int sync_each(int fd, std::size_t count) {
        Batch batch{fd, count, 0};
        std::unique_lock lock(mutex_);
        for (std::size_t i = 0; i < count; ++i) {
            waiting_.push_back(&batch);
            come_.notify_one();
        }
        done_.wait(lock, [&] { return batch.left == 0; });
        return batch.error;
    }

  private:
    struct Batch {
        int fd;
        std::size_t left;
        int error;
    };

    void serve() {
        std::unique_lock lock(mutex_);
        for (;;) {
            come_.wait(lock, [&] { return !waiting_.empty(); });
            Batch& batch = *waiting_.front();
            waiting_.pop_front();
            lock.unlock();
            const int error = sync(batch.fd);
            lock.lock();
            if (batch.error == 0) {
                batch.error = error;
            }
            if (--batch.left == 0) {
                done_.notify_all();
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable come_;
    std::condition_variable done_;
    std::deque<Batch*> waiting_;
};

/// MIRROR_FLUSH_EACH=serial: one after the other in the connection's own thread.
bool is_serial() {
    const char* const set = std::getenv("MIRROR_FLUSH_EACH");
    return set != nullptr && std::string(set) == "serial";
}

int sync_serially(int fd, std::size_t count) {
    int error = 0;
    for (std::size_t i = 0; i < count && error == 0; ++i) {
        error = sync(fd);
    }
    return error;
}

int sync_each(int fd, std::size_t count) {
    static const bool serial = is_serial();
    if (serial || count == 1) {
        return sync_serially(fd, count);
    }
    // Never destroyed: its threads wait in it when the program ends.
    static Pool& pool = *new Pool;
    return pool.sync_each(fd, count);
}

}  // namespace
}  // namespace mirror::nbd::bench

/// Of this program, before the C library's.
extern "C" int fdatasync(int fd) {
    using namespace mirror::nbd::bench;
    const int error = sync_each(fd, std::exchange(requests_of_flush, 1));
    errno = error;
    return error == 0 ? 0 : -1;
}
