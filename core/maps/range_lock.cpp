// SPDX-License-Identifier: BSD-3-Clause
#include "core/maps/range_lock.hpp"

#include <iterator>
#include <utility>

namespace mirror {

RangeLock::Held::Held(Held&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), entry_(other.entry_) {}

RangeLock::Held::~Held() {
    if (owner_ != nullptr) {
        owner_->release(entry_);
    }
}

RangeLock::Held RangeLock::acquire(ByteRange range) {
    MutexLock lock(mutex_);
    if (spare_.empty()) {
        spare_.emplace_back();
    }
    const auto entry = spare_.begin();
    entry->range = range;
    entry->held = false;
    entries_.splice(entries_.end(), spare_, entry);
    while (blocked(entry)) {
        entry->granted.wait(lock);
    }
    entry->held = true;
    return Held(*this, entry);
}

std::optional<RangeLock::Held> RangeLock::try_acquire(ByteRange range) {
    MutexLock lock(mutex_);
    for (const Entry& earlier : entries_) {
        if (earlier.range.overlaps(range)) {
            return std::nullopt;
        }
    }
    if (spare_.empty()) {
        spare_.emplace_back();
    }
    const auto entry = spare_.begin();
    entry->range = range;
    entry->held = true;
    entries_.splice(entries_.end(), spare_, entry);
    return Held(*this, entry);
}

void RangeLock::release(std::list<Entry>::iterator entry) noexcept {
    MutexLock lock(mutex_);
    const auto next = std::next(entry);
    const ByteRange freed = entry->range;
    // The front of the list is the node used last, hence the warmest.
    spare_.splice(spare_.begin(), entries_, entry);
    for (auto waiter = next; waiter != entries_.end(); ++waiter) {
        // Under the mutex, since the waiter's entry may be anyone's once it has been granted.
        if (!waiter->held && waiter->range.overlaps(freed) && !blocked(waiter)) {
            waiter->granted.notify_one();
        }
    }
}

bool RangeLock::blocked(std::list<Entry>::const_iterator entry) const {
    for (auto earlier = entries_.begin(); earlier != entry; ++earlier) {
        if (earlier->range.overlaps(entry->range)) {
            return true;
        }
    }
    return false;
}

}  // namespace mirror
