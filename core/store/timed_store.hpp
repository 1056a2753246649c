// SPDX-License-Identifier: BSD-3-Clause
// A Store whose callers need not wait for ever: for a disk that has stopped to answer (the setting
// `disk_timeout`). Each request runs on a thread of its own with a buffer of its own; its caller
// waits, and when the time is over asks whether the disk may be given up. If so, the caller and
// everybody after it get an error at once, for as long as this object lives. What hangs may still
// land on the disk later: its thread keeps the buffer, the file and its lock until then, so nobody
// can open the file meanwhile.
//
// Called by every thread that reads or writes. The hand-over costs two changes of thread a request.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "core/base/clock.hpp"
#include "core/base/sync.hpp"
#include "core/store/store.hpp"

namespace mirror {

/// What the stores of one replica (its backing and its metadata file) share: how long to wait, and
/// who decides. Thread-safe.
class DiskPatience {
  public:
    /// Called on a waiting thread, without locks, when a request had no answer for the timeout, and
    /// again after each further one. True: the disk is given up. Must not wait for this disk.
    using Judge = std::function<bool(const Error& error)>;

    explicit DiskPatience(std::chrono::milliseconds timeout) : timeout_(timeout) {}

    [[nodiscard]] std::chrono::milliseconds timeout() const noexcept { return timeout_; }
    /// Without a judge everybody waits.
    void set_judge(Judge judge);
    [[nodiscard]] bool may_give_up(const Error& error);

    /// A request that began then has had no answer for the timeout.
    void note_silence(SteadyTime since) noexcept;
    /// A request was answered.
    void note_answer() noexcept { silent_since_.store({}, std::memory_order_relaxed); }
    /// Since when the disk is silent; epoch: it is not.
    [[nodiscard]] SteadyTime silent_since() const noexcept {
        return silent_since_.load(std::memory_order_relaxed);
    }

  private:
    const std::chrono::milliseconds timeout_;
    std::atomic<SteadyTime> silent_since_{SteadyTime{}};
    Mutex mutex_;
    std::shared_ptr<const Judge> judge_ GUARDED_BY(mutex_);
};

class TimedStore final : public Store {
  public:
    /// Answers a read that the page cache can answer at once; false: it can't.
    using CachedRead = std::function<bool(std::span<std::byte> into, std::uint64_t offset)>;

    TimedStore(std::unique_ptr<Store> inner, std::shared_ptr<DiskPatience> patience,
               std::string name, CachedRead cached_read = {});
    /// Waits for requests that were not given up; leaves the others to themselves.
    ~TimedStore() override;
    TimedStore(const TimedStore&) = delete;
    TimedStore& operator=(const TimedStore&) = delete;

    [[nodiscard]] std::uint64_t size() const noexcept override { return size_; }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override;
    [[nodiscard]] bool read_cached(std::span<std::byte> into,
                                   std::uint64_t offset) noexcept override;
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override;
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override;
    [[nodiscard]] Result<void> flush() override;
    [[nodiscard]] Result<std::uint64_t> seal() override;
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override;
    [[nodiscard]] std::uint64_t hole_length(ByteRange range) override;

  private:
    struct Request;
    struct Worker;
    struct Crew;

    /// The worker, with the answer in it; it must be given back. Fails when the disk was given up.
    [[nodiscard]] Result<std::shared_ptr<Worker>> run(const Request& request,
                                                      std::span<const std::byte> from);
    [[nodiscard]] Result<void> await(Worker& worker);
    [[nodiscard]] Result<void> run_plain(const Request& request, std::span<const std::byte> from);

    const std::uint64_t size_;
    const std::shared_ptr<DiskPatience> patience_;
    const std::string name_;
    const CachedRead cached_read_;
    const std::shared_ptr<Crew> crew_;
};

}  // namespace mirror
