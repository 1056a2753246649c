// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/resync.hpp"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "core/base/start_thread.hpp"
#include "core/engine/transfer.hpp"

namespace mirror {
namespace {

/// Regions under way at a time: enough to keep a link of some milliseconds busy, few enough that
/// an application write seldom meets one.
constexpr unsigned worker_count = 4;

/// A region that takes longer, over a slow link, is left for a moment, so that an application's
/// write to it gets through; the rest of it comes in the next pass.
constexpr std::chrono::milliseconds longest_hold{500};

/// Regions whose intents are entered with one sync: few at first, then twice as many each time. If
/// the session ends they are compared whole, sent or not, so a short one should not leave many.
constexpr std::uint64_t first_prepared = 4;
constexpr std::uint64_t most_prepared = 64;

/// The set bits, as blocks of the volume: the first bit is block `base`.
void list_runs(const Bitmap& bits, std::uint64_t base, std::vector<BitRange>& runs) {
    runs.clear();
    std::uint64_t from = 0;
    while (const auto run = bits.next_run(from, bits.size())) {
        runs.push_back({run->first + base, run->last + base});
        from = run->last;
    }
}

}  // namespace

/// What one thread needs, made once.
struct Resync::Worker {
    std::vector<std::byte> data = std::vector<std::byte>(region_size);
    std::vector<Digest> theirs{};
    std::vector<BitRange> to_send{};   ///< blocks
    std::vector<BitRange> sendable{};  ///< blocks: to_send without what is missing
    std::vector<BitRange> sent{};      ///< blocks, of sendable
    /// Blocks of the region, from its first one on, that are not in `data`.
    Bitmap missing{region_size / block_size};
    std::optional<Digest> zero_digest{};  ///< of this session
};

/// Hands out regions in order, and keeps the first error.
struct Resync::Pass {
    Mutex mutex;
    std::uint64_t next GUARDED_BY(mutex) = 0;
    std::uint64_t prepared GUARDED_BY(mutex) = 0;  ///< up to this region, intents are entered
    std::uint64_t window GUARDED_BY(mutex) = first_prepared;  ///< regions to be entered next
    bool is_preparing GUARDED_BY(mutex) = false;
    bool got_further GUARDED_BY(mutex) = false;
    std::optional<Error> error GUARDED_BY(mutex);

    [[nodiscard]] std::optional<std::uint64_t> take(const Differences& differences) {
        MutexLock lock(mutex);
        if (error) {
            return std::nullopt;
        }
        const auto region = differences.next_region(next);
        if (region) {
            next = *region + 1;
        }
        return region;
    }
    /// Of how many regions, from which one on, the intents are to be entered before `region` is
    /// worked on; 0: none. Then prepared_until() must follow.
    [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> to_prepare(std::uint64_t region) {
        MutexLock lock(mutex);
        // A sync can take long: the other threads have enough to do meanwhile.
        const std::uint64_t early = window == most_prepared ? most_prepared / 2 : 0;
        if (is_preparing || region + early < prepared) {
            return {0, 0};
        }
        is_preparing = true;
        return {std::exchange(window, std::min(2 * window, most_prepared)),
                std::max(region, prepared)};
    }
    void prepared_until(std::uint64_t region) {
        MutexLock lock(mutex);
        is_preparing = false;
        prepared = region;
    }
    void note_progress() {
        MutexLock lock(mutex);
        got_further = true;
    }
    void fail_with(const Error& first) {
        MutexLock lock(mutex);
        if (!error) {
            error = first;
        }
    }
    [[nodiscard]] std::pair<bool, std::optional<Error>> outcome() {
        MutexLock lock(mutex);
        return {got_further, error};
    }
};

namespace {

/// Returns when all have ended. One is enough: where the machine has no room for more it takes
/// longer.
Result<void> work_on_threads(const std::function<void()>& work) {
    std::vector<Thread> threads;
    Result<void> begun;
    while (begun && threads.size() < worker_count) {
        threads.emplace_back();
        begun = start_thread(threads.back(), "resync", work);
    }
    if (!begun) {
        threads.pop_back();
    }
    for (Thread& thread : threads) {
        thread.join();
    }
    return threads.empty() ? begun : Result<void>{};
}

}  // namespace

Resync::Resync(Store& local, Differences& differences, RangeLock& ranges, const Clock& clock,
               Salvage::Report unreadable)
    : local_(local),
      differences_(differences),
      ranges_(ranges),
      clock_(clock),
      started_(clock.steady_now()),
      total_(differences.behind_bytes()),
      salvage_(local, clock, std::move(unreadable)) {}

Result<void> Resync::run(Session& session) {
    while (true) {
        Pass pass;
        if (auto begun = work_on_threads([&] { work_through(session, pass); }); !begun) {
            return begun;
        }
        const auto [got_further, error] = pass.outcome();
        if (error) {
            return Failure(*error);
        }
        if (stopping_.load()) {
            return fail(ErrorKind::refused, "the resync was stopped");
        }
        if (!got_further || salvage_.has_too_many()) {
            return {};
        }
    }
}

void Resync::work_through(Session& session, Pass& pass) {
    Worker worker;
    while (!stopping_.load() && !salvage_.has_too_many()) {
        const auto region = pass.take(differences_);
        if (!region) {
            return;
        }
        if (const auto [count, from] = pass.to_prepare(*region); count != 0) {
            // Meanwhile a checkpoint may settle what was entered: each region enters its own again,
            // which costs nothing where it is still there. Where it failed, that will say so.
            pass.prepared_until(differences_.prepare(from, count).value_or(from));
        }
        const auto synced = sync_region(session, worker, *region);
        if (!synced) {
            pass.fail_with(synced.error());
            return;
        }
        if (*synced) {
            pass.note_progress();
        }
    }
}

Result<bool> Resync::sync_region(Session& session, Worker& worker, std::uint64_t region) {
    const ByteRange range = bytes_of({region, region + 1}, region_size, local_.size());
    // The range is held to the end, so that what was read here stays what is sent. What may happen
    // is the session's end, which makes all that it touched suspect: is_lost() is looked at with
    // the mutex of the differences whenever something is taken off the maps.
    const auto held = ranges_.acquire(range);
    const Differences::Work work = differences_.work_in(region);
    const std::vector<BitRange> wanted = salvage_.worth_reading(
        work.suspect ? std::vector{bits_touched(work.range, block_size)} : work.changed);
    if (wanted.empty()) {
        return false;
    }
    // What is sent, or found equal, may sit in the standby's page cache alone: the intent stands
    // for it until both have flushed.
    const auto entered = differences_.enter(work.range);
    if (!entered) {
        return Failure(entered.error());
    }
    if (both_are_holes(session, worker, work)) {
        differences_.clear_covered(work.range, [&] { return session.is_lost(); });
        return true;
    }
    const std::span<std::byte> data(worker.data.data(), work.range.length);
    if (auto read = salvage_.read(work.range, wanted, data, worker.missing, stopping_); !read) {
        return Failure(read.error());
    }
    worker.to_send = work.changed;
    if (work.suspect) {
        if (auto found = find_differing(session, worker, work); !found) {
            return Failure(found.error());
        }
    }
    const auto all_sent = send_all(session, worker, work);
    if (!all_sent) {
        return Failure(all_sent.error());
    }
    if (*all_sent) {
        differences_.clear_covered(work.range, [&] { return session.is_lost(); });
    } else {
        leave_rest(session, worker, work);
    }
    return true;
}

/// Zeroes on both sides, found without reading here. Where the peer has something else the disk is
/// read: nothing is overwritten by zeroes that only the filesystem's word stands for.
bool Resync::both_are_holes(Session& session, Worker& worker, const Differences::Work& work) {
    if (!work.suspect || !work.changed.empty() || work.range.length % digest_block_size != 0 ||
        !is_hole(local_, work.range) || !read_digests(session, work.range, worker.theirs)) {
        return false;
    }
    if (!worker.zero_digest) {
        worker.zero_digest = session.digester()(std::vector<std::byte>(digest_block_size));
    }
    const bool zeroes =
        std::all_of(worker.theirs.begin(), worker.theirs.end(),
                    [&](const Digest& each) { return each == *worker.zero_digest; });
    compared_ += zeroes ? work.range.length : 0;
    return zeroes;
}

/// Whether nothing had to be kept back: what could not be read is not sent.
bool Resync::choose_sendable(Worker& worker, std::uint64_t base) {
    if (worker.missing.empty()) {
        worker.sendable = worker.to_send;
        return true;
    }
    Bitmap blocks(worker.missing.size());
    for (const BitRange& run : worker.to_send) {
        blocks.set({run.first - base, run.last - base});
    }
    bool all = true;
    std::uint64_t from = 0;
    while (const auto run = worker.missing.next_run(from, worker.missing.size())) {
        all = blocks.clear(*run) == 0 && all;
        from = run->last;
    }
    list_runs(blocks, base, worker.sendable);
    return all;
}

Result<bool> Resync::send_all(Session& session, Worker& worker, const Differences::Work& work) {
    const bool all = choose_sendable(worker, work.range.offset / block_size);
    worker.sent.clear();
    const SteadyTime begun = clock_.steady_now();
    for (BitRange run : worker.sendable) {
        while (run.first < run.last) {
            if (!worker.sent.empty() && clock_.steady_now() - begun > longest_hold) {
                return false;
            }
            const BitRange piece{run.first, std::min(run.last, run.first + piece_size_.blocks())};
            if (auto sent = send(session, worker, work, piece); !sent) {
                return Failure(sent.error());
            }
            worker.sent.push_back(piece);
            run.first = piece.last;
        }
    }
    return all;
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
    Bitmap blocks(worker.missing.size());  // of this region
    for (const BitRange& run : worker.to_send) {
        blocks.set({run.first - base, run.last - base});
    }
    const std::span<const std::byte> ours(worker.data.data(), work.range.length);
    for_each_differing(session, ours, worker.theirs, [&](ByteRange differing) {
        blocks.set(bits_touched(differing, block_size));
    });
    // Whatever the buffer holds in their place, it was compared with nothing.
    blocks.merge(worker.missing);
    list_runs(blocks, base, worker.to_send);
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
