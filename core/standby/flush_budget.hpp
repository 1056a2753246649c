// SPDX-License-Identifier: BSD-3-Clause
// How much a standby takes before it has its disk write it. A page cache takes in a second what a
// hard disk needs minutes for, and then whoever flushes waits for all of it. So there is a limit,
// learned from how long flushes take: what the disk does in about a second. Where a disk keeps up
// with the active's own flushes the limit is never reached.
//
// What is counted is work of a disk that has to seek: a write that does not continue the one before
// it costs as much as 1 MiB. Lock-free; note() and is_used_up() from any connection's thread, the
// rest from whoever flushes, one at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "core/base/units.hpp"

namespace mirror {

class FlushBudget {
  public:
    static constexpr std::uint64_t cost_of_seek = 1 * MiB;
    /// Before anything is known of the disk: 4096 writes here and there, or 4 GiB in a row.
    static constexpr std::uint64_t first_limit = 4096 * cost_of_seek;
    /// A flush has a price of its own, so a disk on which it takes seconds must not do one for each
    /// few writes.
    static constexpr std::uint64_t least_limit = 512 * cost_of_seek;
    static constexpr std::chrono::milliseconds wanted{1000};

    [[nodiscard]] static std::uint64_t cost(ByteRange written, bool continues) noexcept {
        return written.length + (continues ? 0 : cost_of_seek);
    }
    void note(std::uint64_t cost) noexcept {
        unflushed_.fetch_add(cost, std::memory_order_relaxed);
    }
    /// Zeroes may be work for the disk or none: nothing is learned of its speed from them.
    void note_zeroes(std::uint64_t bytes) noexcept {
        zeroes_.store(true, std::memory_order_relaxed);
        note(bytes);
    }
    [[nodiscard]] bool is_used_up() const noexcept {
        return unflushed_.load(std::memory_order_relaxed) >= limit_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t limit() const noexcept { return limit_.load(); }

    struct Flush {
        std::uint64_t cost = 0;
        bool has_zeroes = false;
    };
    /// A flush begins; returns what is to be told to flushed() when it is done.
    [[nodiscard]] Flush begin_flush() noexcept {
        return {unflushed_.exchange(0), zeroes_.exchange(false)};
    }
    void flushed(const Flush& flush, std::chrono::nanoseconds took) noexcept {
        const std::uint64_t cost = flush.cost;
        if (cost < least_limit / 8 || flush.has_zeroes) {
            return;  // says more of the flush's own price than of the disk's speed
        }
        const double seconds = std::max(std::chrono::duration<double>(took).count(), 1e-4);
        const double within =
            static_cast<double>(cost) / seconds * std::chrono::duration<double>(wanted).count();
        const std::uint64_t now = limit_.load();
        // Quick to shrink, slower to grow: a flush after the kernel has written most is quick.
        const double grown = std::min(within, static_cast<double>(now) * 8);
        limit_ = static_cast<std::uint64_t>(
            std::clamp(grown, static_cast<double>(least_limit), static_cast<double>(most_limit)));
    }

  private:
    static constexpr std::uint64_t most_limit = 1 * TiB;

    std::atomic<std::uint64_t> unflushed_{0};
    std::atomic<bool> zeroes_{false};
    std::atomic<std::uint64_t> limit_{first_limit};
};

}  // namespace mirror
