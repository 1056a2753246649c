// SPDX-License-Identifier: BSD-3-Clause
// Ends a connection from outside: an export's owner (a new session shuts the old one out), the
// server's limits, stop(). Shared by all of them, so it outlives the connection; after disarm()
// tripping it is harmless. Any thread; never waits for the connection.
#pragma once

#include <atomic>

#include "core/base/sync.hpp"
#include "core/nbd/stream.hpp"

namespace mirror::nbd {

class Breaker {
  public:
    explicit Breaker(Stream& stream) : stream_(&stream) {}

    void trip() noexcept {
        // First the flag: what the connection has received already must not be applied either.
        tripped_.store(true);
        MutexLock lock(mutex_);
        if (stream_ != nullptr) {
            stream_->shutdown();
        }
    }
    [[nodiscard]] bool is_tripped() const noexcept { return tripped_.load(); }

    /// Before the stream goes away.
    void disarm() noexcept {
        MutexLock lock(mutex_);
        stream_ = nullptr;
    }

  private:
    std::atomic<bool> tripped_{false};
    Mutex mutex_;
    Stream* stream_ GUARDED_BY(mutex_);
};

}  // namespace mirror::nbd
