// SPDX-License-Identifier: BSD-3-Clause
// How long a promotion took, by phase: measured, kept in STATE_DIR/VOLUME/rto.json, shown in the
// status. A Stopwatch belongs to one thread.
#pragma once

#include <chrono>
#include <string>

#include "core/base/json.hpp"
#include "daemon/context.hpp"

namespace mirror::daemon {

class Stopwatch {
  public:
    explicit Stopwatch(const Clock& clock)
        : clock_(clock), begin_(clock.steady_now()), phase_(begin_) {}

    /// Ends the phase that began with the last call (or the beginning).
    void end_phase(const std::string& name);
    [[nodiscard]] double seconds() const;
    [[nodiscard]] const Json& phases() const noexcept { return phases_; }

  private:
    const Clock& clock_;
    const SteadyTime begin_;
    SteadyTime phase_;
    Json phases_ = Json::object();
};

/// Failures are logged only: a figure for people must not stop a promotion.
void write_rto(const NodeConfig& node, const std::string& volume, const Stopwatch& watch);
/// Null when there was no promotion here yet.
[[nodiscard]] Json read_rto(const NodeConfig& node, const std::string& volume);

}  // namespace mirror::daemon
