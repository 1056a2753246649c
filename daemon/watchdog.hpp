// SPDX-License-Identifier: BSD-3-Clause
// systemd's watchdog (WatchdogSec=): a mirrord that is there and does nothing any more is ended,
// and started again; engines continue meanwhile. A timer that runs says nothing, so a sign of life
// is given only after a question has gone the way of everybody's: through mirrord.sock, the threads
// that accept and serve, and each keeper's lock. No disk, peer, hook or kernel device is asked
// anything: one that hangs must not cost the others their mirrord.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "core/base/periodic.hpp"
#include "daemon/keepers.hpp"

namespace mirror::daemon {

/// How often this process is to give a sign; nothing where the service manager waits for none.
[[nodiscard]] std::optional<std::chrono::microseconds> watchdog_limit();

class Watchdog {
  public:
    /// Whether mirrord works; called from the watchdog's thread.
    using Test = std::function<Result<void>()>;
    using Tell = std::function<void(const std::string& state)>;

    Watchdog(Test test, Tell tell) : test_(std::move(test)), tell_(std::move(tell)) {}
    ~Watchdog() { stop(); }
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// Tests four times within the limit; without one nothing is done.
    [[nodiscard]] Result<void> start(std::optional<std::chrono::microseconds> limit);
    /// Waits for the test that is under way. Idempotent.
    void stop() { periodic_.stop(); }

  private:
    void look();

    const Test test_;
    const Tell tell_;
    Periodic periodic_;
};

/// The test of a running mirrord, which gives up after `patience`.
[[nodiscard]] Result<void> answers_itself(const Context& context, const Keepers& keepers,
                                          std::chrono::milliseconds patience);

}  // namespace mirror::daemon
