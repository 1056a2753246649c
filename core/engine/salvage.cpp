// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/salvage.hpp"

#include <algorithm>
#include <utility>

namespace mirror {
namespace {

constexpr std::chrono::milliseconds longest_search{500};

/// Between the region and the block, so that the good parts of a region cost few requests.
constexpr std::uint64_t blocks_per_step = digest_block_size / block_size;

}  // namespace

/// One look at one region, under its range lock.
struct Salvage::Search {
    ByteRange region;
    std::span<std::byte> into;
    Bitmap& missing;
    const std::atomic<bool>& stop;
    const Clock& clock;
    SteadyTime begun;
    bool got_further = false;  ///< a look that did not would be made for ever
    std::vector<std::pair<BitRange, Error>> found{};

    [[nodiscard]] bool is_over() const {
        return stop.load() || (got_further && clock.steady_now() - begun > longest_search);
    }
};

Salvage::Salvage(Store& local, const Clock& clock, Report report, std::uint64_t most)
    : local_(local),
      clock_(clock),
      report_(std::move(report)),
      most_blocks_(most / block_size),
      unreadable_(divide_up(local.size(), block_size)),
      sore_(divide_up(local.size(), region_size)) {}

std::vector<BitRange> Salvage::worth_reading(const std::vector<BitRange>& blocks) const {
    MutexLock lock(mutex_);
    if (unreadable_.empty()) {
        return blocks;
    }
    std::vector<BitRange> left;
    for (const BitRange& run : blocks) {
        std::uint64_t from = run.first;
        while (from < run.last) {
            const auto bad = unreadable_.next_run_in({from, run.last});
            const std::uint64_t until = bad ? bad->first : run.last;
            if (from < until) {
                left.push_back({from, until});
            }
            from = bad ? bad->last : until;
        }
    }
    return left;
}

Result<void> Salvage::read(ByteRange region, const std::vector<BitRange>& wanted,
                           std::span<std::byte> into, Bitmap& missing,
                           const std::atomic<bool>& stop) {
    missing.clear_all();
    const std::uint64_t number = region.offset / region_size;
    if (!is_sore(number)) {
        auto whole = local_.read(into, region.offset);
        if (whole || whole.error().kind != ErrorKind::io) {
            return whole;
        }
        note_sore(number);
    }
    missing.set({0, divide_up(region.length, block_size)});
    Search search{region, into, missing, stop, clock_, clock_.steady_now()};
    Result<void> done;
    for (BitRange run : wanted) {
        while (done && run.first < run.last && !search.is_over()) {
            const std::uint64_t next = (run.first / blocks_per_step + 1) * blocks_per_step;
            const BitRange step{run.first, std::min(run.last, next)};
            done = read_step(search, step);
            run.first = step.last;
        }
    }
    for (const auto& [blocks, cause] : search.found) {
        report_(bytes_of(blocks, block_size, local_.size()), cause);
    }
    return done;
}

Result<void> Salvage::read_step(Search& search, BitRange step) {
    if (step.last - step.first == 1 || !is_near_unreadable(step)) {
        const auto whole = read_blocks(search, step);
        if (!whole) {
            return Failure(whole.error());
        }
        if (*whole || step.last - step.first == 1) {
            return {};
        }
    }
    for (std::uint64_t block = step.first; block < step.last && !search.is_over(); ++block) {
        if (auto read = read_blocks(search, {block, block + 1}); !read) {
            return Failure(read.error());
        }
    }
    return {};
}

/// Whether they are readable. Other failures than that are errors.
Result<bool> Salvage::read_blocks(Search& search, BitRange blocks) {
    const ByteRange range = bytes_of(blocks, block_size, local_.size());
    const std::uint64_t within = range.offset - search.region.offset;
    const auto read = local_.read(search.into.subspan(within, range.length), range.offset);
    if (!read && read.error().kind != ErrorKind::io) {
        return Failure(read.error());
    }
    if (read) {
        const std::uint64_t first = search.region.offset / block_size;
        search.missing.clear({blocks.first - first, blocks.last - first});
        search.got_further = true;
    } else if (blocks.last - blocks.first == 1) {
        note_unreadable(search, blocks, read.error());
        search.got_further = true;
    }
    return read.has_value();
}

/// In the same step as a block that can't be read: an earlier look got no further than that.
bool Salvage::is_near_unreadable(BitRange blocks) const {
    const std::uint64_t first = blocks.first / blocks_per_step * blocks_per_step;
    MutexLock lock(mutex_);
    return unreadable_.any({first, first + blocks_per_step});
}

bool Salvage::is_sore(std::uint64_t region) const {
    MutexLock lock(mutex_);
    return sore_.test(region);
}

void Salvage::note_sore(std::uint64_t region) {
    MutexLock lock(mutex_);
    sore_.set({region, region + 1});
}

void Salvage::note_unreadable(Search& search, BitRange block, const Error& error) {
    if (!search.found.empty() && search.found.back().first.last == block.first) {
        search.found.back().first.last = block.last;
    } else {
        search.found.emplace_back(block, error);
    }
    MutexLock lock(mutex_);
    unreadable_.set(block);
    if (!cause_) {
        cause_ = error;
    }
    too_many_ = unreadable_.count() > most_blocks_;
}

std::optional<Error> Salvage::cause() const {
    MutexLock lock(mutex_);
    return cause_;
}

}  // namespace mirror
