// SPDX-License-Identifier: BSD-3-Clause
// Tells who runs the node that somebody on the network asked for what is not his: one event
// (`request-refused`) in a while, however often it happens. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "core/base/clock.hpp"
#include "core/base/sync.hpp"
#include "core/events/event_log.hpp"
#include "core/nbd/export.hpp"

namespace mirror::daemon {

class RefusalLog {
  public:
    static constexpr std::chrono::seconds interval{10};

    /// Both outlive this.
    RefusalLog(EventLog& events, const Clock& clock) : events_(events), clock_(clock) {}

    /// What somebody local may not is told to him alone.
    void note(const nbd::Client& client, const Error& error) EXCLUDES(mutex_);

  private:
    EventLog& events_;
    const Clock& clock_;
    Mutex mutex_;
    std::optional<SteadyTime> told_ GUARDED_BY(mutex_);
    std::uint64_t untold_ GUARDED_BY(mutex_) = 0;  ///< since then
};

}  // namespace mirror::daemon
