// SPDX-License-Identifier: BSD-3-Clause
// Reads for a resync what a disk with bad sectors still gives. A region that can't be read in one
// go is searched in steps down to 4 KiB blocks, so that exactly the unreadable ones stay behind and
// everything else can be sent. What was found unreadable is remembered for the rest of the resync
// and not read again by it: a disk takes seconds over each such read.
//
// Called by the resync's workers, each of which holds the range lock of its region. A search ends
// after half a second, so that an application's write to the region gets through; the next look at
// the region goes on where it was.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/sync.hpp"
#include "core/maps/bitmap.hpp"
#include "core/store/store.hpp"

namespace mirror {

class Salvage {
  public:
    /// Told of each run of blocks that is found unreadable, once.
    using Report = std::function<void(ByteRange range, const Error& cause)>;

    /// With more than this the disk fails as a whole: reading on would be in vain.
    static constexpr std::uint64_t most_unreadable = 1 * GiB;

    Salvage(Store& local, const Clock& clock, Report report, std::uint64_t most = most_unreadable);

    /// Those of `blocks` that are not known to be unreadable.
    [[nodiscard]] std::vector<BitRange> worth_reading(const std::vector<BitRange>& blocks) const;

    /// Reads a region: all of it, or, where that fails, its `wanted` blocks (not empty) one after
    /// the other until `stop`. The blocks of the region, counted from its first one, that are not
    /// in `into` afterwards are set in `missing`. Fails with what is no error of the medium.
    [[nodiscard]] Result<void> read(ByteRange region, const std::vector<BitRange>& wanted,
                                    std::span<std::byte> into, Bitmap& missing,
                                    const std::atomic<bool>& stop);

    /// Why the first of the unreadable blocks could not be read; none: all could.
    [[nodiscard]] std::optional<Error> cause() const;
    [[nodiscard]] bool has_too_many() const noexcept { return too_many_.load(); }

  private:
    struct Search;

    [[nodiscard]] Result<void> read_step(Search& search, BitRange step);
    [[nodiscard]] Result<bool> read_blocks(Search& search, BitRange blocks);
    [[nodiscard]] bool is_near_unreadable(BitRange blocks) const;
    [[nodiscard]] bool is_sore(std::uint64_t region) const;
    void note_sore(std::uint64_t region);
    void note_unreadable(Search& search, BitRange block, const Error& error);

    Store& local_;
    const Clock& clock_;
    const Report report_;
    const std::uint64_t most_blocks_;
    std::atomic<bool> too_many_{false};

    mutable Mutex mutex_;
    Bitmap unreadable_ GUARDED_BY(mutex_);  ///< blocks
    Bitmap sore_ GUARDED_BY(mutex_);        ///< regions that can't be read in one go
    std::optional<Error> cause_ GUARDED_BY(mutex_);
};

}  // namespace mirror
