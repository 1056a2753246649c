// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/resync.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "core/engine/transfer.hpp"

namespace mirror {
namespace {

/// Regions under way at a time: enough to keep a link of some milliseconds busy, few enough that
/// an application write seldom meets one.
constexpr unsigned worker_count = 4;

/// A region that takes longer, over a slow link, is left for a moment, so that an application's
/// write to it gets through; the rest of it comes in the next pass.
constexpr std::chrono::milliseconds longest_hold{500};

}  // namespace

/// What one thread needs, made once.
struct Resync::Worker {
    std::vector<std::byte> data = std::vector<std::byte>(region_size);
    std::vector<Digest> theirs{};
    std::vector<BitRange> to_send{};  ///< blocks
    std::vector<BitRange> sent{};     ///< blocks, of to_send
};

/// Hands out regions in order, and keeps the first error.
struct Resync::Pass {
    Mutex mutex;
    std::uint64_t next GUARDED_BY(mutex) = 0;
    bool took_any GUARDED_BY(mutex) = false;
    std::optional<Error> error GUARDED_BY(mutex);

    [[nodiscard]] std::optional<std::uint64_t> take(const Differences& differences) {
        MutexLock lock(mutex);
        if (error) {
            return std::nullopt;
        }
        const auto region = differences.next_region(next);
        if (region) {
            next = *region + 1;
            took_any = true;
        }
        return region;
    }
    void fail_with(const Error& first) {
        MutexLock lock(mutex);
        if (!error) {
            error = first;
        }
    }
    [[nodiscard]] std::pair<bool, std::optional<Error>> outcome() {
        MutexLock lock(mutex);
        return {took_any, error};
    }
};

Resync::Resync(Store& local, Differences& differences, RangeLock& ranges, const Clock& clock)
    : local_(local),
      differences_(differences),
      ranges_(ranges),
      clock_(clock),
      started_(clock.steady_now()),
      total_(differences.behind_bytes()) {}

Result<void> Resync::run(Session& session) {
    while (true) {
        Pass pass;
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < worker_count; ++i) {
            threads.emplace_back([&] {
                Worker worker;
                while (!stopping_.load()) {
                    const auto region = pass.take(differences_);
                    if (!region) {
                        return;
                    }
                    if (auto synced = sync_region(session, worker, *region); !synced) {
                        pass.fail_with(synced.error());
                        return;
                    }
                }
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        const auto [took_any, error] = pass.outcome();
        if (error) {
            return Failure(*error);
        }
        if (stopping_.load()) {
            return fail(ErrorKind::refused, "the resync was stopped");
        }
        if (!took_any) {
            return {};
        }
    }
}

Result<void> Resync::sync_region(Session& session, Worker& worker, std::uint64_t region) {
    const ByteRange range = bytes_of({region, region + 1}, region_size, local_.size());
    const auto held = ranges_.acquire(range);
    const Differences::Work work = differences_.work_in(region);
    if (!work.suspect && work.changed.empty()) {
        return {};
    }
    // What is sent, or found equal, may sit in the standby's page cache alone: the intent stands
    // for it until both have flushed.
    const auto entered = differences_.enter(work.range);
    if (!entered) {
        return Failure(entered.error());
    }
    const std::span<std::byte> data(worker.data.data(), work.range.length);
    if (auto read = local_.read(data, work.range.offset); !read) {
        return read;
    }
    worker.to_send = work.changed;
    if (work.suspect) {
        if (auto found = find_differing(session, worker, work); !found) {
            return found;
        }
    }
    worker.sent.clear();
    const SteadyTime begun = clock_.steady_now();
    for (BitRange run : worker.to_send) {
        while (run.first < run.last) {
            if (!worker.sent.empty() && clock_.steady_now() - begun > longest_hold) {
                leave_rest(session, worker, work);
                return {};
            }
            const BitRange piece{run.first, std::min(run.last, run.first + piece_size_.blocks())};
            if (auto sent = send(session, worker, work, piece); !sent) {
                return sent;
            }
            worker.sent.push_back(piece);
            run.first = piece.last;
        }
    }
    differences_.clear_covered(work.range, [&] { return session.is_lost(); });
    return {};
}

void Resync::leave_rest(Session& session, const Worker& worker, const Differences::Work& work) {
    const auto is_lost = [&] { return session.is_lost(); };
    if (work.suspect) {
        differences_.found(work, worker.to_send, is_lost);
    }
    for (const BitRange& piece : worker.sent) {
        differences_.clear_covered(bytes_of(piece, block_size, local_.size()), is_lost);
    }
}

Result<void> Resync::find_differing(Session& session, Worker& worker,
                                    const Differences::Work& work) {
    if (auto read = read_digests(session, work.range, worker.theirs); !read) {
        if (session.is_lost()) {
            return read;
        }
        // A bad sector there: writing it again is what may repair it.
        const std::uint64_t base = work.range.offset / block_size;
        worker.to_send.assign(1, {base, base + divide_up(work.range.length, block_size)});
        return {};
    }
    compared_ += work.range.length;
    const std::uint64_t base = work.range.offset / block_size;
    Bitmap blocks(divide_up(work.range.length, block_size));  // of this region
    for (const BitRange& run : worker.to_send) {
        blocks.set({run.first - base, run.last - base});
    }
    const std::span<const std::byte> ours(worker.data.data(), work.range.length);
    for_each_differing(session, ours, worker.theirs, [&](ByteRange differing) {
        blocks.set(bits_touched(differing, block_size));
    });
    worker.to_send.clear();
    std::uint64_t from = 0;
    while (const auto run = blocks.next_run(from, blocks.size())) {
        worker.to_send.push_back({run->first + base, run->last + base});
        from = run->last;
    }
    return {};
}

Result<void> Resync::send(Session& session, Worker& worker, const Differences::Work& work,
                          BitRange blocks) {
    const ByteRange range = bytes_of(blocks, block_size, local_.size());
    const std::span<const std::byte> data(worker.data.data() + (range.offset - work.range.offset),
                                          range.length);
    const std::uint64_t count = blocks.last - blocks.first;
    blocks_ += count;
    const SteadyTime begun = clock_.steady_now();
    auto sent =
        send_data(session, data, range.offset, false,
                  [this](std::uint64_t bytes, bool zero) { (zero ? zeroed_ : sent_) += bytes; });
    if (sent) {
        piece_size_.answered(count, clock_.steady_now() - begun);
    }
    return sent;
}

Resync::Progress Resync::progress() const {
    Progress progress;
    progress.total_bytes = total_;
    progress.done_bytes = total_ - std::min(total_, differences_.behind_bytes());
    progress.sent_bytes = sent_;
    progress.zeroed_bytes = zeroed_;
    progress.compared_bytes = compared_;
    progress.sent_blocks = blocks_;
    const double seconds = std::chrono::duration<double>(clock_.steady_now() - started_).count();
    if (seconds > 0) {
        progress.bytes_per_second =
            static_cast<std::uint64_t>(static_cast<double>(progress.done_bytes) / seconds);
    }
    if (progress.bytes_per_second > 0) {
        progress.eta_seconds =
            divide_up(progress.total_bytes - progress.done_bytes, progress.bytes_per_second);
    }
    return progress;
}

}  // namespace mirror
