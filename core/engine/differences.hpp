// SPDX-License-Identifier: BSD-3-Clause
// What the active remembers about how its peer may differ: intent, suspect and changed map
// together, in memory and in the metadata file, with the one rule that ties them (docs/design.md,
// section 3): bits of the suspect and changed maps may reach the disk late, because an intent that
// is on disk stands for them until a checkpoint has written them. Where the changed map has no
// space in STATE_DIR, bits of the suspect map, which has its own, are written in its place:
// coarser, and compared instead of sent, should this node start anew before there is space again.
//
// Called by every writing thread (enter, mark, clear), by resync workers, and by the housekeeper
// (checkpoint). One mutex around the two peer maps; the intent map has its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/maps/intent_map.hpp"
#include "core/meta/meta_file.hpp"

namespace mirror {

class Differences {
  public:
    /// Loads the maps; what the intent map holds from a former run becomes suspect, durably.
    [[nodiscard]] static Result<std::unique_ptr<Differences>> load(MetaFile& meta);

    /// What to do before the first write after a time in which nothing had an intent: called by the
    /// thread that writes, without a lock held; the write fails as it does. Set before anything is
    /// written.
    void on_leaving_quiet(std::function<Result<void>()> callback) {
        leave_quiet_ = std::move(callback);
    }

    /// Before any disk may see a write, an application's or a resync's.
    [[nodiscard]] Result<IntentMap::Entered> enter(ByteRange range) {
        return intents_.enter(range);
    }

    /// As enter(), for a caller that must not wait.
    [[nodiscard]] std::optional<IntentMap::Entered> try_enter(ByteRange range) {
        return intents_.try_enter(range);
    }

    /// Makes the intents of the first `count` regions with work at or after `from` durable
    /// together, so that enter() waits for none of them unless a checkpoint came between. Returns
    /// the region after them.
    [[nodiscard]] Result<std::uint64_t> prepare(std::uint64_t from, std::uint64_t count);

    /// The peer lacks what is written here.
    void mark_changed(ByteRange range);
    /// The peer may differ in every region with an intent: its session is over.
    void suspect_intents();
    /// The peer may differ in these regions, durably before it returns.
    [[nodiscard]] Result<void> suspect(const Bitmap& regions);
    [[nodiscard]] Result<void> suspect_all();
    /// The peer has acknowledged exactly these bytes: blocks and regions that they cover whole are
    /// no longer different. Nothing happens once `session_lost` says so: what the peer answered
    /// may be gone from its cache, and suspect_intents() must have the last word.
    void clear_covered(ByteRange range, const std::function<bool()>& session_lost);

    /// A region that differs or may differ.
    struct Work {
        std::uint64_t region = 0;
        ByteRange range;
        bool suspect = false;             ///< compare before sending
        std::vector<BitRange> changed{};  ///< blocks to send without asking
    };
    /// The first region at or after `from` with work; nothing when there is none.
    [[nodiscard]] std::optional<std::uint64_t> next_region(std::uint64_t from) const;
    /// What is to be done in it now. Taken under the region's range lock.
    [[nodiscard]] Work work_in(std::uint64_t region) const;

    /// The region of `work` was compared: of all that was suspect in it these blocks differ.
    /// Nothing happens once `session_lost` says so, as above.
    void found(const Work& work, const std::vector<BitRange>& differing,
               const std::function<bool()>& session_lost);

    /// Bytes that are, or may be, different.
    [[nodiscard]] std::uint64_t behind_bytes() const;
    [[nodiscard]] std::uint64_t changed_bytes() const;
    [[nodiscard]] std::uint64_t suspect_bytes() const;
    [[nodiscard]] std::uint64_t intent_bytes() const { return intents_.count() * region_size; }
    /// What the peer is known to lack: the first `most` ranges, and how many more there are.
    struct Lacking {
        std::vector<ByteRange> ranges{};
        std::uint64_t unlisted = 0;

        friend bool operator==(const Lacking&, const Lacking&) = default;
    };
    [[nodiscard]] Lacking changed_ranges(std::size_t most) const;
    /// Every region that differs or may differ, those with an intent included.
    [[nodiscard]] Bitmap regions() const;
    [[nodiscard]] bool overlaps(ByteRange range) const;
    [[nodiscard]] bool empty() const;
    /// Nothing that a checkpoint could do.
    [[nodiscard]] bool settled() const;

    /// `flush` makes everything written so far durable on every replica that takes part. Then the
    /// maps are written, and intents cleared. Serialised here.
    [[nodiscard]] Result<void> checkpoint(IntentMap::Clear what,
                                          const std::function<Result<void>()>& flush);

  private:
    Differences(MetaFile& meta, Bitmap suspect, Bitmap changed);

    [[nodiscard]] Result<void> write_maps();
    /// On failure `chunks` are those that may not be written.
    [[nodiscard]] Result<void> write_chunks(MapKind kind, std::span<const std::uint64_t>& chunks);
    void keep_intents(const Bitmap& intents);
    /// The regions in which these chunks of the changed map have a bit.
    [[nodiscard]] Bitmap regions_of(std::span<const std::uint64_t> changed_chunks) const
        REQUIRES(mutex_);
    [[nodiscard]] Result<void> write_stand_ins(std::span<const std::uint64_t> changed_chunks);
    void drop_stand_ins(std::span<const std::uint64_t> unwritten) REQUIRES(mutex_);
    [[nodiscard]] std::optional<std::uint64_t> first_with_work(std::uint64_t from) const
        REQUIRES(mutex_);
    void touch_suspect(BitRange bits) REQUIRES(mutex_);
    void touch_changed(BitRange bits) REQUIRES(mutex_);

    MetaFile& meta_;
    const std::uint64_t volume_size_;
    std::function<Result<void>()> leave_quiet_;
    IntentMap intents_;
    Mutex checkpoint_mutex_;  ///< one checkpoint at a time
    Mutex writing_mutex_;     ///< one writer of the two peer maps at a time

    mutable Mutex mutex_;
    Bitmap suspect_ GUARDED_BY(mutex_);
    Bitmap changed_ GUARDED_BY(mutex_);
    /// Chunks whose bits are not on disk as they are here.
    Bitmap suspect_dirty_ GUARDED_BY(mutex_);
    Bitmap changed_dirty_ GUARDED_BY(mutex_);
    /// On disk these regions are suspect too, since there is no space for their changed bits.
    Bitmap stand_ins_ GUARDED_BY(mutex_);
    /// Nothing is set: lets a write in sync pass without the mutex.
    std::atomic<bool> empty_{true};
};

}  // namespace mirror
