// SPDX-License-Identifier: BSD-3-Clause
// Which 1 MiB regions may have writes that are not yet known to be durable on both replicas. A
// region is entered durably before any disk may see a write to it (promise 4), with one sync for
// all who wait (group commit), and leaves only through a checkpoint: writes of earlier epochs
// ended, both replicas flushed, change map durable. A region that is written again and again simply
// stays, so a hot working set costs nothing.
//
// Called by every thread that writes (enter), and by the engine's housekeeper (checkpoint).
// The durable part is injected, so the logic is tested without a disk.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/sync.hpp"
#include "core/maps/bitmap.hpp"

namespace mirror {

class IntentMap {
  public:
    /// Makes the named chunks of `bits` durable before it returns. Called without the map's mutex,
    /// by one thread at a time.
    using Persist =
        std::function<Result<void>(const Bitmap& bits, const std::vector<std::uint64_t>& chunks)>;

    /// A write in progress; its epoch cannot end before it does.
    class Entered {
      public:
        Entered(Entered&& other) noexcept;
        Entered& operator=(Entered&&) = delete;
        ~Entered();

      private:
        friend class IntentMap;
        Entered(IntentMap& owner, unsigned epoch) : owner_(&owner), epoch_(epoch) {}
        IntentMap* owner_;
        unsigned epoch_;
    };

    /// What a checkpoint clears, of the regions that nobody entered since it began.
    enum class Clear {
        all,
        at_rest,  ///< those that nobody entered since the checkpoint before began
    };

    /// `leave_quiet`: when no region had an intent, before the first write may begin, and after its
    /// intent is durable. Called as `persist` is, and fails likewise.
    IntentMap(std::uint64_t volume_size, Persist persist,
              std::function<Result<void>()> leave_quiet = {});

    /// What a former run left on disk stays in the map until a checkpoint clears it. Before anybody
    /// enters.
    void keep(const Bitmap& regions);

    /// Blocks until the regions of `range` are durable in the map. Fails as `persist` does; then
    /// nothing may be written.
    [[nodiscard]] Result<Entered> enter(ByteRange range);

    /// Nothing when the regions are not durable in the map yet, so that there is a sync to wait
    /// for.
    [[nodiscard]] std::optional<Entered> try_enter(ByteRange range);

    /// Makes all these regions durable in the map with one sync, so that enter() need not wait for
    /// one each. They are not entered: a checkpoint may clear them before they are.
    [[nodiscard]] Result<void> prepare(std::span<const BitRange> regions);

    /// Makes the map smaller: waits for the writes that began before this call, runs `settle`
    /// (flush both replicas, write the change map), then clears regions, durably. When `settle`
    /// fails nothing is cleared; when the clearing can't be written, the durable map keeps more
    /// than is needed until a later commit. One caller at a time.
    [[nodiscard]] Result<void> checkpoint(Clear what, const std::function<Result<void>()>& settle);

    /// Regions in the map now, those not yet durable included.
    [[nodiscard]] Bitmap snapshot() const;
    [[nodiscard]] std::uint64_t count() const;

  private:
    /// What one commit writes; a copy, since it is written without the mutex.
    struct Batch {
        Bitmap bits;
        std::vector<std::uint64_t> chunks;
        bool was_quiet = false;
    };

    void leave(unsigned epoch) noexcept;
    void want(BitRange regions) REQUIRES(mutex_);
    void mark_dirty(BitRange regions) REQUIRES(mutex_);
    void drop_all_but(const Bitmap& kept) REQUIRES(mutex_);
    // Between the two, the caller lets go of the mutex and calls persist_.
    [[nodiscard]] Batch begin_commit() REQUIRES(mutex_);
    [[nodiscard]] Result<void> carry_out(const Batch& batch) EXCLUDES(mutex_);
    void end_commit(Batch batch, Result<void> result) REQUIRES(mutex_);

    const Persist persist_;
    const std::function<Result<void>()> leave_quiet_;

    mutable Mutex mutex_;
    Bitmap wanted_ GUARDED_BY(mutex_);   ///< must be in the durable map
    Bitmap durable_ GUARDED_BY(mutex_);  ///< is in the durable map for certain
    /// Regions entered since the last checkpoint began.
    Bitmap recent_ GUARDED_BY(mutex_);
    /// Chunks of wanted_ that the next commit writes; may name one twice.
    std::vector<std::uint64_t> dirty_chunks_ GUARDED_BY(mutex_);
    bool committing_ GUARDED_BY(mutex_) = false;
    std::uint64_t commits_begun_ GUARDED_BY(mutex_) = 0;
    std::uint64_t commits_ended_ GUARDED_BY(mutex_) = 0;
    std::optional<Error> failure_ GUARDED_BY(mutex_);  ///< of the last commit that failed
    unsigned epoch_ GUARDED_BY(mutex_) = 0;
    std::array<std::uint64_t, 2> in_progress_ GUARDED_BY(mutex_){};
    CondVar committed_;
    CondVar drained_;
};

}  // namespace mirror
