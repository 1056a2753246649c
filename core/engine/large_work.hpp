// SPDX-License-Identifier: BSD-3-Clause
// Holds back what is sent to a standby: of changes larger than 1 MiB, zeroes above all, only so
// much is under way in a session. They cost nothing to send and the standby's disk may take seconds
// for each, so that hundreds of them would be a queue of minutes in front of everybody's next
// write. What waits here is with its caller still, and has not been sent; when the session ends
// nobody waits any longer.
//
// Any thread that may wait. Small changes never come here.
#pragma once

#include <cstdint>
#include <utility>

#include "core/base/sync.hpp"
#include "core/base/units.hpp"

namespace mirror {

class LargeWork {
  public:
    static constexpr std::uint64_t large = 1 * MiB;  ///< what is longer comes here
    static constexpr std::uint64_t most = 64 * MiB;

    /// Its bytes are under way until it goes. Empty: it holds nothing.
    class Turn {
      public:
        Turn() = default;
        Turn(LargeWork& work, std::uint64_t bytes) noexcept : work_(&work), bytes_(bytes) {}
        Turn(Turn&& other) noexcept
            : work_(std::exchange(other.work_, nullptr)), bytes_(other.bytes_) {}
        Turn& operator=(Turn&& other) = delete;
        ~Turn() {
            if (work_ != nullptr) {
                work_->give_back(bytes_);
            }
        }

      private:
        LargeWork* work_ = nullptr;
        std::uint64_t bytes_ = 0;
    };

    /// Waits until there is room; one always has room alone. The session may be over when this
    /// returns, which whoever sends is told then.
    [[nodiscard]] Turn enter(std::uint64_t bytes) EXCLUDES(mutex_) {
        if (bytes <= large) {
            return {};
        }
        MutexLock lock(mutex_);
        while (!ended_ && under_way_ != 0 && under_way_ + bytes > most) {
            changed_.wait(lock);
        }
        under_way_ += bytes;
        return {*this, bytes};
    }
    /// The session is over: everybody goes on.
    void end() EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        ended_ = true;
        changed_.notify_all();
    }

  private:
    void give_back(std::uint64_t bytes) EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        under_way_ -= bytes;
        changed_.notify_all();
    }

    Mutex mutex_;
    CondVar changed_;
    std::uint64_t under_way_ GUARDED_BY(mutex_) = 0;
    bool ended_ GUARDED_BY(mutex_) = false;
};

}  // namespace mirror
