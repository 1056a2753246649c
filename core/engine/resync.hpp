// SPDX-License-Identifier: BSD-3-Clause
// Brings the standby of a session up to date: region by region in order, each under its range
// lock from the read of the source to the standby's answer, several at a time. Suspect regions are
// compared by digest first; changed blocks are sent as they are; zeroes are sent as zeroes. Blocks
// that the local disk can't read stay marked, and the rest is sent.
//
// run() is called by the peer's supervisor and works with threads of its own; the figures may be
// read from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/clock.hpp"
#include "core/engine/differences.hpp"
#include "core/engine/piece_size.hpp"
#include "core/engine/salvage.hpp"
#include "core/engine/session.hpp"
#include "core/maps/range_lock.hpp"
#include "core/store/store.hpp"

namespace mirror {

class Resync {
  public:
    struct Progress {
        std::uint64_t done_bytes = 0;
        std::uint64_t total_bytes = 0;
        std::uint64_t bytes_per_second = 0;
        std::optional<std::uint64_t> eta_seconds;
        std::uint64_t sent_bytes = 0;      ///< data that crossed the link
        std::uint64_t zeroed_bytes = 0;    ///< sent as zeroes
        std::uint64_t compared_bytes = 0;  ///< looked at by digest
        std::uint64_t sent_blocks = 0;     ///< 4 KiB blocks sent or zeroed
    };

    /// `unreadable` is told, from any of the threads, what the local disk can't read.
    Resync(Store& local, Differences& differences, RangeLock& ranges, const Clock& clock,
           Salvage::Report unreadable);

    /// Until nothing differs but what the local disk can't read, the session is lost, or stop() is
    /// called. On an error the rest stays marked for the next one.
    [[nodiscard]] Result<void> run(Session& session);
    /// Why something could not be read; none: everything could. It may have been overwritten since.
    [[nodiscard]] std::optional<Error> unreadable() const { return salvage_.cause(); }
    /// So much of the local disk is unreadable that the rest was not tried.
    [[nodiscard]] bool gave_up() const noexcept { return salvage_.has_too_many(); }
    void stop() noexcept { stopping_ = true; }
    [[nodiscard]] Progress progress() const;

  private:
    struct Worker;
    struct Pass;

    /// One thread's part of a pass.
    void work_through(Session& session, Pass& pass);
    /// Whether there was anything to be done that can be done.
    [[nodiscard]] Result<bool> sync_region(Session& session, Worker& worker, std::uint64_t region);
    [[nodiscard]] bool both_are_holes(Session& session, Worker& worker,
                                      const Differences::Work& work);
    [[nodiscard]] static bool choose_sendable(Worker& worker, std::uint64_t base);
    /// False when a part of it is left for another pass.
    [[nodiscard]] Result<bool> send_all(Session& session, Worker& worker,
                                        const Differences::Work& work);
    /// Records what of the region is still to be sent when the worker has sent a part.
    void leave_rest(Session& session, const Worker& worker, const Differences::Work& work);
    [[nodiscard]] Result<void> find_differing(Session& session, Worker& worker,
                                              const Differences::Work& work);
    [[nodiscard]] Result<void> send(Session& session, Worker& worker, const Differences::Work& work,
                                    BitRange blocks);

    Store& local_;
    Differences& differences_;
    RangeLock& ranges_;
    const Clock& clock_;
    const SteadyTime started_;
    const std::uint64_t total_;
    PieceSize piece_size_;
    Salvage salvage_;
    std::atomic<bool> stopping_{false};
    std::atomic<std::uint64_t> sent_{0};
    std::atomic<std::uint64_t> zeroed_{0};
    std::atomic<std::uint64_t> compared_{0};
    std::atomic<std::uint64_t> blocks_{0};
};

}  // namespace mirror
