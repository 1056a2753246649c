// SPDX-License-Identifier: BSD-3-Clause
// A disk in memory that remembers which sectors have not been flushed, so that a test can cut the
// power with any of them kept, damage bytes, or make requests fail. The test keeps a MemoryDisk,
// the code under test gets a Store on it. Thread-safe.
//
// It has what a file on a real filesystem has: a page cache, out of which read_cached() answers
// what was read or written before, and holes, where nothing was written or the space was freed.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/base/sync.hpp"
#include "core/store/store.hpp"

namespace mirror::test {

class MemoryDisk {
  public:
    static constexpr std::uint64_t sector_bytes = 512;
    static constexpr std::uint64_t page_bytes = 4096;
    using Sector = std::array<std::byte, sector_bytes>;

    /// Space is given in blocks of `block_bytes`, as filesystems do; extents() tells in these.
    explicit MemoryDisk(std::uint64_t size, std::uint64_t block_bytes = 4096)
        : block_bytes_(block_bytes), size_(size) {}
    MemoryDisk(const MemoryDisk& other) : block_bytes_(other.block_bytes_) { copy_from(other); }
    MemoryDisk& operator=(const MemoryDisk&) = delete;

    /// A Store on this disk, which must outlive it.
    [[nodiscard]] std::unique_ptr<Store> open();

    [[nodiscard]] std::uint64_t size() {
        MutexLock lock(mutex_);
        return size_;
    }
    void grow(std::uint64_t size) {
        MutexLock lock(mutex_);
        size_ = std::max(size_, size);
    }

    /// How many sector writes a power cut may lose, in the order in which they were made.
    [[nodiscard]] std::size_t unflushed() {
        MutexLock lock(mutex_);
        return pending_.size();
    }
    /// Keeps the flushed sectors and those unflushed writes for whose number `keep` says so.
    void cut_power(const std::function<bool(std::size_t)>& keep) {
        MutexLock lock(mutex_);
        for (std::size_t i = 0; i < pending_.size(); ++i) {
            if (keep(i)) {
                make_durable(pending_[i]);
            }
        }
        pending_.clear();
        current_ = durable_;
        cached_.clear();
    }
    /// The page cache forgets all it may: read_cached() answers nothing until it is read again.
    void evict() {
        MutexLock lock(mutex_);
        cached_.clear();
    }

    /// Flips the bits of `mask`, on the disk itself.
    void damage(std::uint64_t offset, std::byte mask) {
        MutexLock lock(mutex_);
        for (auto* sectors : {&current_, &durable_}) {
            (*sectors)[offset / sector_bytes][offset % sector_bytes] ^= mask;
        }
    }
    void fail_writes(bool failing) {
        MutexLock lock(mutex_);
        writes_fail_ = failing;
    }
    /// No space is left: only blocks that were written to before can be written to.
    void be_full(bool full) {
        MutexLock lock(mutex_);
        full_ = full;
    }
    void fail_flushes(bool failing) {
        MutexLock lock(mutex_);
        flushes_fail_ = failing;
    }
    /// Reads that touch the range fail; an empty one ends that.
    void fail_reads(ByteRange range) {
        MutexLock lock(mutex_);
        unreadable_ = range;
    }
    /// Reads that touch these sectors fail until each of them was written, as a whole. None of it
    /// is in the page cache.
    void make_bad(ByteRange range) {
        MutexLock lock(mutex_);
        for (std::uint64_t at = range.offset; at < range.end(); at += sector_bytes) {
            bad_sectors_.insert(at / sector_bytes);
        }
    }
    /// The bad sectors can be read again.
    void heal() {
        MutexLock lock(mutex_);
        bad_sectors_.clear();
    }
    /// Reads that failed since the start.
    [[nodiscard]] std::uint64_t failed_reads() {
        MutexLock lock(mutex_);
        return failed_reads_;
    }
    [[nodiscard]] std::uint64_t bytes_read() {
        MutexLock lock(mutex_);
        return bytes_read_;
    }
    /// The write calls since the start.
    [[nodiscard]] std::uint64_t writes() {
        MutexLock lock(mutex_);
        return writes_;
    }

  private:
    friend class MemoryStore;
    /// A write that a power cut may lose: the sector's content, or nothing where it became a hole.
    using Pending = std::pair<std::uint64_t, std::optional<Sector>>;

    void make_durable(const Pending& change) REQUIRES(mutex_) {
        if (change.second) {
            durable_[change.first] = *change.second;
        } else {
            durable_.erase(change.first);
        }
    }
    void put_in_cache(ByteRange range) REQUIRES(mutex_) {
        for (std::uint64_t page = range.offset / page_bytes; page * page_bytes < range.end();
             ++page) {
            cached_.insert(page);
        }
    }
    [[nodiscard]] bool is_cached(ByteRange range) const REQUIRES(mutex_) {
        for (std::uint64_t page = range.offset / page_bytes; page * page_bytes < range.end();
             ++page) {
            if (!cached_.contains(page)) {
                return false;
            }
        }
        return true;
    }
    [[nodiscard]] bool is_unreadable(ByteRange range) const REQUIRES(mutex_) {
        const auto bad = bad_sectors_.lower_bound(range.offset / sector_bytes);
        return (bad != bad_sectors_.end() && *bad * sector_bytes < range.end()) ||
               (!unreadable_.empty() && range.overlaps(unreadable_));
    }
    void copy_out(std::span<std::byte> into, std::uint64_t offset) const REQUIRES(mutex_) {
        for (std::size_t i = 0; i < into.size();) {
            const std::uint64_t at = offset + i;
            const std::size_t within = at % sector_bytes;
            const std::size_t count = std::min(sector_bytes - within, into.size() - i);
            const auto found = current_.find(at / sector_bytes);
            if (found == current_.end()) {
                std::memset(&into[i], 0, count);
            } else {
                std::memcpy(&into[i], &found->second[within], count);
            }
            i += count;
        }
    }

    Result<void> begin_write(ByteRange range) REQUIRES(mutex_) {
        ++writes_;
        if (!range.fits_in(size_)) {
            return fail(ErrorKind::invalid, "memory: write beyond the end");
        }
        return writes_fail_ ? fail(ErrorKind::io, "memory: write failed") : Result<void>{};
    }
    void copy_in(std::span<const std::byte> from, std::uint64_t offset) REQUIRES(mutex_) {
        for (std::size_t i = 0; i < from.size();) {
            const std::uint64_t at = offset + i;
            const std::size_t within = at % sector_bytes;
            const std::size_t count = std::min(sector_bytes - within, from.size() - i);
            if (count == sector_bytes) {
                bad_sectors_.erase(at / sector_bytes);
            }
            Sector& sector = current_[at / sector_bytes];
            std::memcpy(&sector[within], &from[i], count);
            pending_.emplace_back(at / sector_bytes, sector);
            i += count;
        }
        put_in_cache({offset, from.size()});
    }
    /// Of whole blocks.
    void make_hole(ByteRange range) REQUIRES(mutex_) {
        const auto cut = [range](auto& set, std::uint64_t grain) {
            set.erase(set.lower_bound(range.offset / grain), set.lower_bound(range.end() / grain));
        };
        for (auto at = current_.lower_bound(range.offset / sector_bytes);
             at != current_.end() && at->first * sector_bytes < range.end(); ++at) {
            pending_.emplace_back(at->first, std::nullopt);
        }
        cut(current_, sector_bytes);
        cut(bad_sectors_, sector_bytes);
        cut(cached_, page_bytes);
    }

    void copy_from(const MemoryDisk& other) {
        MutexLock lock(mutex_);
        MutexLock theirs(other.mutex_);
        size_ = other.size_;
        current_ = other.current_;
        durable_ = other.durable_;
        pending_ = other.pending_;
    }

    Result<void> read(std::span<std::byte> into, std::uint64_t offset) {
        MutexLock lock(mutex_);
        const ByteRange range{offset, into.size()};
        if (!range.fits_in(size_)) {
            return fail(ErrorKind::invalid, "memory: read beyond the end");
        }
        if (is_unreadable(range)) {
            ++failed_reads_;
            return fail(ErrorKind::io, "memory: unreadable sector");
        }
        bytes_read_ += into.size();
        copy_out(into, offset);
        put_in_cache(range);
        return {};
    }

    bool read_cached(std::span<std::byte> into, std::uint64_t offset) {
        MutexLock lock(mutex_);
        const ByteRange range{offset, into.size()};
        if (range.empty() || !range.fits_in(size_) || is_unreadable(range) || !is_cached(range)) {
            return false;
        }
        copy_out(into, offset);
        return true;
    }

    Result<void> write(std::span<const std::byte> from, std::uint64_t offset) {
        MutexLock lock(mutex_);
        auto may = begin_write({offset, from.size()});
        if (may && full_ && needs_space({offset, from.size()})) {
            return fail_errno(ENOSPC, "memory: write");
        }
        if (may) {
            copy_in(from, offset);
        }
        return may;
    }

    /// Whole blocks become a hole, as they do in a file; the rest of the range is written.
    Result<void> free(ByteRange range) {
        MutexLock lock(mutex_);
        auto may = begin_write(range);
        if (!may) {
            return may;
        }
        const std::uint64_t first = divide_up(range.offset, block_bytes_) * block_bytes_;
        const std::uint64_t last = range.end() / block_bytes_ * block_bytes_;
        if (first >= last) {
            copy_in(std::vector<std::byte>(range.length), range.offset);
            return {};
        }
        copy_in(std::vector<std::byte>(first - range.offset), range.offset);
        make_hole({first, last - first});
        copy_in(std::vector<std::byte>(range.end() - last), last);
        return {};
    }

    [[nodiscard]] bool needs_space(ByteRange range) const REQUIRES(mutex_) {
        const std::uint64_t sectors = block_bytes_ / sector_bytes;
        for (std::uint64_t block = range.offset / block_bytes_;
             block < divide_up(range.end(), block_bytes_); ++block) {
            const auto next = current_.lower_bound(block * sectors);
            if (next == current_.end() || next->first >= (block + 1) * sectors) {
                return true;
            }
        }
        return false;
    }

    Result<void> flush() {
        MutexLock lock(mutex_);
        if (flushes_fail_) {
            return fail(ErrorKind::io, "memory: flush failed");
        }
        for (const Pending& change : pending_) {
            make_durable(change);
        }
        pending_.clear();
        return {};
    }

    Result<std::vector<Extent>> extents(ByteRange range) {
        MutexLock lock(mutex_);
        std::vector<Extent> found;
        for (std::uint64_t at = range.offset; at < range.end();) {
            const std::uint64_t block = at / block_bytes_;
            const std::uint64_t sectors = block_bytes_ / sector_bytes;
            const auto next = current_.lower_bound(block * sectors);
            const bool hole = next == current_.end() || next->first >= (block + 1) * sectors;
            std::uint64_t end = (block + 1) * block_bytes_;
            if (hole) {
                end = next == current_.end() ? range.end() : next->first / sectors * block_bytes_;
            }
            end = std::min(end, range.end());
            if (!found.empty() && found.back().hole == hole) {
                found.back().range.length += end - at;
            } else {
                found.push_back(Extent{{at, end - at}, hole});
            }
            at = end;
        }
        return found;
    }

    const std::uint64_t block_bytes_;
    mutable Mutex mutex_;
    std::uint64_t size_ GUARDED_BY(mutex_) = 0;
    std::map<std::uint64_t, Sector> current_ GUARDED_BY(mutex_);
    std::map<std::uint64_t, Sector> durable_ GUARDED_BY(mutex_);
    std::vector<Pending> pending_ GUARDED_BY(mutex_);
    std::set<std::uint64_t> cached_ GUARDED_BY(mutex_);  ///< pages
    bool writes_fail_ GUARDED_BY(mutex_) = false;
    bool flushes_fail_ GUARDED_BY(mutex_) = false;
    bool full_ GUARDED_BY(mutex_) = false;
    ByteRange unreadable_ GUARDED_BY(mutex_);
    std::set<std::uint64_t> bad_sectors_ GUARDED_BY(mutex_);
    std::uint64_t failed_reads_ GUARDED_BY(mutex_) = 0;
    std::uint64_t bytes_read_ GUARDED_BY(mutex_) = 0;
    std::uint64_t writes_ GUARDED_BY(mutex_) = 0;
};

class MemoryStore final : public Store {
  public:
    explicit MemoryStore(MemoryDisk& disk) : disk_(disk) {}

    [[nodiscard]] std::uint64_t size() const noexcept override { return disk_.size(); }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        return disk_.read(into, offset);
    }
    [[nodiscard]] bool read_cached(std::span<std::byte> into,
                                   std::uint64_t offset) noexcept override {
        return disk_.read_cached(into, offset);
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        return disk_.write(from, offset);
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override {
        return space == Space::may_free
                   ? disk_.free(range)
                   : disk_.write(std::vector<std::byte>(range.length), range.offset);
    }
    [[nodiscard]] Result<void> flush() override { return disk_.flush(); }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return disk_.extents(range);
    }

  private:
    MemoryDisk& disk_;
};

inline std::unique_ptr<Store> MemoryDisk::open() {
    return std::make_unique<MemoryStore>(*this);
}

}  // namespace mirror::test
