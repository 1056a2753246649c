// SPDX-License-Identifier: BSD-3-Clause
// Brings the standby of a session up to date: region by region in order, each under its range
// lock from the read of the source to the standby's answer, several at a time. Suspect regions are
// compared by digest first; changed blocks are sent as they are; zeroes are sent as zeroes.
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

    Resync(Store& local, Differences& differences, RangeLock& ranges, const Clock& clock);

    /// Until nothing differs, the session is lost, or stop() is called. On an error the rest stays
    /// marked for the next one.
    [[nodiscard]] Result<void> run(Session& session);
    void stop() noexcept { stopping_ = true; }
    [[nodiscard]] Progress progress() const;

  private:
    struct Worker;
    struct Pass;

    [[nodiscard]] Result<void> sync_region(Session& session, Worker& worker, std::uint64_t region);
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
    std::atomic<bool> stopping_{false};
    std::atomic<std::uint64_t> sent_{0};
    std::atomic<std::uint64_t> zeroed_{0};
    std::atomic<std::uint64_t> compared_{0};
    std::atomic<std::uint64_t> blocks_{0};
};

}  // namespace mirror
