// SPDX-License-Identifier: BSD-3-Clause
#include "core/maps/intent_map.hpp"

#include <algorithm>
#include <utility>

namespace mirror {
namespace {

/// The chunk's bits in both maps; all clear where either has none.
Bitmap::Chunk common_bits(const Bitmap& a, const Bitmap& b, std::uint64_t index) {
    Bitmap::Chunk common{};
    if (a.chunk(index) != nullptr && b.chunk(index) != nullptr) {
        for (std::size_t i = 0; i < common.size(); ++i) {
            common[i] = (*a.chunk(index))[i] & (*b.chunk(index))[i];
        }
    }
    return common;
}

void copy_chunk(const Bitmap& from, Bitmap& to, std::uint64_t index) {
    const Bitmap::Chunk* bits = from.chunk(index);
    to.set_chunk(index, bits != nullptr ? *bits : Bitmap::Chunk{});
}

}  // namespace

IntentMap::Entered::Entered(Entered&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), epoch_(other.epoch_) {}

IntentMap::Entered::~Entered() {
    if (owner_ != nullptr) {
        owner_->leave(epoch_);
    }
}

IntentMap::IntentMap(std::uint64_t volume_size, Persist persist,
                     std::function<Result<void>()> leave_quiet)
    : persist_(std::move(persist)),
      leave_quiet_(std::move(leave_quiet)),
      wanted_(divide_up(volume_size, region_size)),
      durable_(wanted_.size()),
      recent_(wanted_.size()) {}

void IntentMap::keep(const Bitmap& regions) {
    MutexLock lock(mutex_);
    std::uint64_t from = 0;
    while (const auto run = regions.next_run(from, regions.size())) {
        want(*run);
        from = run->last;
    }
}

Result<IntentMap::Entered> IntentMap::enter(ByteRange range) {
    const BitRange regions = bits_touched(range, region_size);
    MutexLock lock(mutex_);
    // From here on a checkpoint waits for this write or leaves its regions alone.
    Entered entered(*this, epoch_);
    ++in_progress_[epoch_];
    want(regions);
    const std::uint64_t covering_commit = commits_begun_ + 1;
    while (!durable_.all(regions)) {
        if (commits_ended_ >= covering_commit) {
            Error error = failure_.value_or(Error{ErrorKind::internal, "intent map not durable"});
            // Its destructor takes the mutex.
            lock.unlock();
            return Failure(std::move(error));
        }
        if (committing_) {
            committed_.wait(lock);
            continue;
        }
        Batch batch = begin_commit();
        lock.unlock();
        Result<void> result = carry_out(batch);
        lock.lock();
        end_commit(std::move(batch), std::move(result));
    }
    return entered;
}

std::optional<IntentMap::Entered> IntentMap::try_enter(ByteRange range) {
    const BitRange regions = bits_touched(range, region_size);
    MutexLock lock(mutex_);
    // Wanted too: what a checkpoint is about to clear is not entered by being on the disk still.
    if (!durable_.all(regions) || !wanted_.all(regions)) {
        return std::nullopt;
    }
    recent_.set(regions);
    ++in_progress_[epoch_];
    return Entered(*this, epoch_);
}

Result<void> IntentMap::prepare(std::span<const BitRange> regions) {
    {
        MutexLock lock(mutex_);
        for (const BitRange& run : regions) {
            want(run);
        }
    }
    // The first commit takes all of them along.
    for (const BitRange& run : regions) {
        const auto entered = enter({run.first * region_size, (run.last - run.first) * region_size});
        if (!entered) {
            return Failure(entered.error());
        }
    }
    return {};
}

Result<void> IntentMap::carry_out(const Batch& batch) {
    auto done = persist_(batch.bits, batch.chunks);
    return done && batch.was_quiet && leave_quiet_ ? leave_quiet_() : done;
}

void IntentMap::leave(unsigned epoch) noexcept {
    MutexLock lock(mutex_);
    if (--in_progress_[epoch] == 0) {
        drained_.notify_all();
    }
}

Result<void> IntentMap::checkpoint(Clear what, const std::function<Result<void>()>& settle) {
    MutexLock lock(mutex_);
    Bitmap kept(wanted_.size());
    if (what == Clear::at_rest) {
        kept.merge(recent_);
    }
    recent_.clear_all();
    const unsigned ending = std::exchange(epoch_, 1 - epoch_);
    while (in_progress_[ending] > 0) {
        drained_.wait(lock);
    }
    lock.unlock();
    if (Result<void> settled = settle(); !settled) {
        return settled;
    }
    lock.lock();
    kept.merge(recent_);
    drop_all_but(kept);
    while (committing_) {
        committed_.wait(lock);
    }
    if (dirty_chunks_.empty()) {
        return {};  // nothing to clear, or a writer's commit took it along
    }
    Batch batch = begin_commit();
    lock.unlock();
    Result<void> result = persist_(batch.bits, batch.chunks);
    lock.lock();
    end_commit(std::move(batch), result);
    return result;
}

void IntentMap::drop_all_but(const Bitmap& kept) {
    for (std::uint64_t i = 0; i < wanted_.chunk_count(); ++i) {
        if (wanted_.chunk(i) == nullptr) {
            continue;
        }
        const Bitmap::Chunk left = common_bits(wanted_, kept, i);
        if (left != *wanted_.chunk(i)) {
            wanted_.set_chunk(i, left);
            dirty_chunks_.push_back(i);
        }
    }
}

void IntentMap::want(BitRange regions) {
    recent_.set(regions);
    if (wanted_.set(regions) > 0) {
        mark_dirty(regions);
    }
}

void IntentMap::mark_dirty(BitRange regions) {
    const std::uint64_t last =
        divide_up(std::min(regions.last, wanted_.size()), Bitmap::chunk_bits);
    for (std::uint64_t i = regions.first / Bitmap::chunk_bits; i < last; ++i) {
        dirty_chunks_.push_back(i);
    }
}

IntentMap::Batch IntentMap::begin_commit() {
    committing_ = true;
    ++commits_begun_;
    Batch batch{Bitmap(wanted_.size()), std::exchange(dirty_chunks_, {}), durable_.empty()};
    auto& chunks = batch.chunks;
    std::sort(chunks.begin(), chunks.end());
    chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
    for (std::uint64_t i : chunks) {
        copy_chunk(wanted_, batch.bits, i);
        // While it is being written, and after a failure, the disk may hold the old chunk or the
        // new one: only what is in both counts. So who enters a region that is being cleared
        // waits for the next commit.
        durable_.set_chunk(i, common_bits(durable_, batch.bits, i));
    }
    return batch;
}

void IntentMap::end_commit(Batch batch, Result<void> result) {
    committing_ = false;
    commits_ended_ = commits_begun_;
    if (result) {
        for (std::uint64_t i : batch.chunks) {
            copy_chunk(batch.bits, durable_, i);
        }
    } else {
        failure_ = std::move(result.error());
        dirty_chunks_.insert(dirty_chunks_.end(), batch.chunks.begin(), batch.chunks.end());
    }
    committed_.notify_all();
}

Bitmap IntentMap::snapshot() const {
    MutexLock lock(mutex_);
    Bitmap copy(wanted_.size());
    copy.merge(wanted_);
    return copy;
}

std::uint64_t IntentMap::count() const {
    MutexLock lock(mutex_);
    return wanted_.count();
}

}  // namespace mirror
