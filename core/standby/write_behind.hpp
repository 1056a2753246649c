// SPDX-License-Identifier: BSD-3-Clause
// What was written to a standby's backing and may not be on its disk yet, and the flushing of it in
// pieces. A flush of much is one call of the kernel that says nothing until all of it is done; so
// what was written is brought to the disk a region at a time first, and each region that is there
// is progress which an active can be told of. What is left for the flush itself is the filesystem's
// journal and the disk's own cache. Small flushes are done at once, as ever.
//
// Any thread; note() is lock-free.
#pragma once

#include "core/base/shared_flush.hpp"
#include "core/standby/disk_activity.hpp"
#include "core/standby/flush_budget.hpp"
#include "core/standby/region_marks.hpp"
#include "core/store/store.hpp"

namespace mirror {

class WriteBehind {
  public:
    /// Both outlive it.
    WriteBehind(Store& backing, DiskActivity& activity)
        : backing_(backing), activity_(activity), marks_(backing.size()) {}

    /// The range was written; `continues`: where the connection's last one ended.
    void note(ByteRange range, bool continues) noexcept {
        marks_.mark(range);
        budget_.note(FlushBudget::cost(range, continues));
    }
    void note_zeroes(ByteRange range) noexcept {
        marks_.mark(range);
        budget_.note_zeroes(range.length);
    }
    /// More than the disk can write soon: whoever wrote is to flush before he goes on.
    [[nodiscard]] bool is_too_much() const noexcept { return budget_.is_used_up(); }

    /// Everything written before the call is durable when it returns. Shared by who comes together.
    [[nodiscard]] Result<void> flush() {
        return flushes_.run([this] { return flush_once(); });
    }

  private:
    /// What a disk writes without anybody noticing: no pieces are made of less.
    static constexpr std::uint64_t worth_pieces = 64 * FlushBudget::cost_of_seek;

    [[nodiscard]] Result<void> flush_once();

    Store& backing_;
    DiskActivity& activity_;
    RegionMarks marks_;
    FlushBudget budget_;
    SharedFlush flushes_;
};

}  // namespace mirror
