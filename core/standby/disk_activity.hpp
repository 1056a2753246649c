// SPDX-License-Identifier: BSD-3-Clause
// What the disk of a standby is at, lane by lane, so that the active can tell a disk that works
// through a queue from one that hangs (core/nbd/work_report.hpp). Requests of one connection are
// done one after the other; so when its present one began, everything before it was done, and that
// moment is the lane's newest progress. A request that is long by nature is done in pieces that
// count alike. What is only in the page cache is done as far as the connection is concerned, and
// says nothing of the disk: a lane never speaks for another one. The pieces of a flush do: they
// were written by the disk itself, and who flushes may be waiting for another one's flush.
//
// Shared by the replica, its connections, and whoever asks, who may outlive the replica. The
// connections' threads touch their own lane alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/sync.hpp"
#include "core/nbd/work_report.hpp"

namespace mirror {

class DiskActivity {
  public:
    /// Since when the lane's present request or piece of one is at the disk; 0: none is.
    using Lane = std::atomic<SteadyTime::rep>;

    explicit DiskActivity(const Clock& clock) : clock_(clock) {}

    /// The next lane of the session.
    [[nodiscard]] std::shared_ptr<Lane> open_lane() EXCLUDES(mutex_) {
        auto lane = std::make_shared<Lane>(0);
        MutexLock lock(mutex_);
        lanes_.push_back(lane);
        return lane;
    }
    /// The lanes of another session begin. Those of the one before stay with their connections.
    void forget_lanes() EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        lanes_.clear();
    }
    [[nodiscard]] Lane& control() noexcept { return control_; }

    /// The active of the session is alive: it asks for something, be it how its work gets on.
    /// Returns the time of it.
    SteadyTime::rep note_request() noexcept {
        const SteadyTime::rep at = now();
        last_request_.store(at, std::memory_order_relaxed);
        return at;
    }
    [[nodiscard]] SteadyTime last_request() const noexcept {
        return SteadyTime(SteadyTime::duration(last_request_.load(std::memory_order_relaxed)));
    }

    /// A part of what was written has reached the disk.
    void note_flushed_piece() noexcept { flushed_at_.store(now(), std::memory_order_relaxed); }
    [[nodiscard]] SteadyTime last_flushed_piece() const noexcept {
        return SteadyTime(SteadyTime::duration(flushed_at_.load(std::memory_order_relaxed)));
    }

    /// `device_moved`: when the device below was last seen to have finished something.
    [[nodiscard]] nbd::WorkReport report(SteadyTime device_moved) const EXCLUDES(mutex_) {
        const SteadyTime::rep any = std::max(flushed_at_.load(std::memory_order_relaxed),
                                             device_moved.time_since_epoch().count());
        const SteadyTime::rep at = now();
        const auto standing = [&](const Lane& lane) -> nbd::WorkReport::value_type {
            const SteadyTime::rep since = lane.load(std::memory_order_relaxed);
            if (since == 0) {
                return std::nullopt;
            }
            const SteadyTime::duration still(
                std::max<SteadyTime::rep>(at - std::max(since, any), 0));
            return std::chrono::duration_cast<std::chrono::milliseconds>(still);
        };
        nbd::WorkReport report;
        report[nbd::control_lane] = standing(control_);
        MutexLock lock(mutex_);
        for (std::size_t i = 0; i < lanes_.size() && i + 1 < report.size(); ++i) {
            report[nbd::first_connection_lane + i] = standing(*lanes_[i]);
        }
        return report;
    }

    [[nodiscard]] SteadyTime::rep now() const noexcept {
        return clock_.steady_now().time_since_epoch().count();
    }

  private:
    const Clock& clock_;
    Lane control_{0};
    std::atomic<SteadyTime::rep> last_request_{0};
    std::atomic<SteadyTime::rep> flushed_at_{0};
    mutable Mutex mutex_;
    std::vector<std::shared_ptr<Lane>> lanes_ GUARDED_BY(mutex_);
};

/// Marks a lane as at the disk for a scope.
class AtTheDisk {
  public:
    AtTheDisk(DiskActivity::Lane& lane, SteadyTime::rep now) noexcept : lane_(lane) {
        lane_.store(now, std::memory_order_relaxed);
    }
    AtTheDisk(const AtTheDisk&) = delete;
    AtTheDisk& operator=(const AtTheDisk&) = delete;
    ~AtTheDisk() { lane_.store(0, std::memory_order_relaxed); }

  private:
    DiskActivity::Lane& lane_;
};

}  // namespace mirror
