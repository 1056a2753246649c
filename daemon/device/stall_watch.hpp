// SPDX-License-Identifier: BSD-3-Clause
// How long a device's users wait: the longest time in which requests were under way and none was
// answered. From the block layer's counters, with a thread of its own. It reads and writes nothing
// on the device: a thread that waited for the device would keep mirrord itself from ending, and so
// from starting the engine that the device waits for.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "core/base/fd.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"

namespace mirror::daemon {

class StallWatch {
  public:
    /// `stat_file`: of the device, in /sys/block.
    explicit StallWatch(std::string stat_file);
    ~StallWatch();
    StallWatch(const StallWatch&) = delete;
    StallWatch& operator=(const StallWatch&) = delete;

    [[nodiscard]] std::chrono::milliseconds longest() const EXCLUDES(mutex_);
    /// Until as many requests were answered as are under way now, or none is left. False when that
    /// takes longer than `patience`.
    [[nodiscard]] bool await_answers(std::chrono::milliseconds patience) const EXCLUDES(mutex_);

    struct Counters {
        std::uint64_t answered = 0;
        std::uint64_t waiting = 0;
    };
    /// The line of a stat file (Documentation/block/stat.rst); nothing when it is something else.
    [[nodiscard]] static std::optional<Counters> parse(const std::string& line);

  private:
    void run();
    [[nodiscard]] std::optional<Counters> look() const;

    const std::string stat_file_;
    mutable Mutex mutex_;
    mutable CondVar wake_;
    bool stopping_ GUARDED_BY(mutex_) = false;
    std::chrono::milliseconds longest_ GUARDED_BY(mutex_){0};
    Thread thread_;
};

}  // namespace mirror::daemon
