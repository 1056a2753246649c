// SPDX-License-Identifier: BSD-3-Clause
#include "core/standby/write_behind.hpp"

#include <algorithm>
#include <array>

namespace mirror {
namespace {

/// Brings regions to the disk, some of them ahead of the one that is waited for, so that the disk
/// always has something to do and can put it in order.
class Pieces {
  public:
    Pieces(Store& backing, DiskActivity& activity) : backing_(backing), activity_(activity) {}

    /// In ascending order.
    void add(std::uint64_t region) {
        const std::uint64_t offset = region * region_size;
        const ByteRange range{offset, std::min(region_size, backing_.size() - offset)};
        if (!next_.empty() && next_.end() == offset && next_.length < longest()) {
            next_.length += range.length;
            return;
        }
        begin_next();
        next_ = range;
    }
    [[nodiscard]] Result<void> finish() {
        begin_next();
        while (under_way_ > 0 && done_) {
            await_first();
        }
        return done_;
    }

  private:
    /// Where there are thousands, mostly of zeroes, most are written before anybody waits for them,
    /// and the calls are what takes time.
    [[nodiscard]] std::uint64_t longest() const noexcept {
        constexpr std::size_t many = 1024;
        return begun_ < many ? region_size : 4 * region_size;
    }
    void begin_next() {
        if (next_.empty() || !done_) {
            return;
        }
        if (under_way_ == window_.size()) {
            await_first();
        }
        if (done_) {
            done_ = backing_.write_back(next_, WriteBack::begin);
            window_[begun_++ % window_.size()] = next_;
            ++under_way_;
        }
    }
    void await_first() {
        done_ =
            backing_.write_back(window_[(begun_ - under_way_) % window_.size()], WriteBack::await);
        --under_way_;
        if (done_) {
            activity_.note_flushed_piece();
        }
    }

    Store& backing_;
    DiskActivity& activity_;
    std::array<ByteRange, 32> window_{};
    std::size_t begun_ = 0;
    std::size_t under_way_ = 0;
    ByteRange next_{};
    Result<void> done_;
};

}  // namespace

Result<void> WriteBehind::flush_once() {
    const SteadyTime::rep began = activity_.now();
    const FlushBudget::Flush flush = budget_.begin_flush();
    Pieces pieces(backing_, activity_);
    marks_.take([&](std::uint64_t region) {
        if (flush.cost >= worth_pieces) {
            pieces.add(region);
        }
    });
    auto done = pieces.finish();
    if (done) {
        done = backing_.flush();
    }
    if (done) {
        budget_.flushed(flush, SteadyTime::duration(activity_.now() - began));
    }
    return done;
}

}  // namespace mirror
