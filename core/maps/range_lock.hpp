// SPDX-License-Identifier: BSD-3-Clause
// Overlapping writes must reach all replicas in one order (promise 3), and a range under resync
// must not change between the read of its source and the peer's answer. Both come from here:
// whoever writes, trims or resyncs holds the range meanwhile. First come, first served among
// overlapping ranges, so nobody starves. Many threads; owns nothing but its waiters.
#pragma once

#include <cstdint>
#include <list>
#include <optional>

#include "core/base/sync.hpp"
#include "core/base/units.hpp"

namespace mirror {

class RangeLock {
    struct Entry {
        ByteRange range;
        bool held = false;
        CondVar granted{};
    };

  public:
    /// Holds its range until it goes away.
    class Held {
      public:
        Held(Held&& other) noexcept;
        Held& operator=(Held&&) = delete;
        ~Held();

      private:
        friend class RangeLock;
        Held(RangeLock& owner, std::list<Entry>::iterator entry) : owner_(&owner), entry_(entry) {}
        RangeLock* owner_;
        std::list<Entry>::iterator entry_;
    };

    RangeLock() = default;
    RangeLock(const RangeLock&) = delete;
    RangeLock& operator=(const RangeLock&) = delete;

    /// Blocks until no earlier request overlaps `range`.
    [[nodiscard]] Held acquire(ByteRange range);
    /// Nothing when it would have to wait. May be let go by another thread.
    [[nodiscard]] std::optional<Held> try_acquire(ByteRange range);

  private:
    void release(std::list<Entry>::iterator entry) noexcept;
    [[nodiscard]] bool blocked(std::list<Entry>::const_iterator entry) const REQUIRES(mutex_);

    Mutex mutex_;
    /// In order of arrival: an entry waits for every earlier one that overlaps it.
    std::list<Entry> entries_ GUARDED_BY(mutex_);
    /// Spare nodes, so that the hot path allocates nothing.
    std::list<Entry> spare_ GUARDED_BY(mutex_);
};

}  // namespace mirror
