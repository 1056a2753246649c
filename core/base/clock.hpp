// SPDX-License-Identifier: BSD-3-Clause
// Time, injected so that tests need not wait. Wall time is for people and for records that
// outlive a process; steady time is for deadlines.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "core/base/error.hpp"

namespace mirror {

using WallTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::microseconds>;
using SteadyTime = std::chrono::steady_clock::time_point;

/// Thread-safe.
class Clock {
  public:
    virtual ~Clock() = default;
    [[nodiscard]] virtual WallTime wall_now() const = 0;
    [[nodiscard]] virtual SteadyTime steady_now() const = 0;
};

/// The machine's clocks; lives for the whole process.
[[nodiscard]] const Clock& system_clock();

/// What the wall clock showed at a moment of the steady clock.
[[nodiscard]] WallTime wall_time_of(SteadyTime moment, const Clock& clock);

/// How far another machine's clock is ahead of this one's (negative: behind), as known from one
/// question. It read its clock at an unknown moment between question and answer.
struct ClockOffset {
    std::chrono::microseconds likely{0};       ///< if it read its clock half-way
    std::chrono::microseconds uncertainty{0};  ///< the true offset is within likely ± this

    /// What the clocks are apart at least, whenever it read its own; 0 or more.
    [[nodiscard]] std::chrono::microseconds at_least() const;
};

/// `theirs`: what the other clock showed; `answered`: what ours showed when the answer was here;
/// `took`: from question to answer, by the steady clock.
[[nodiscard]] ClockOffset clock_offset(WallTime theirs, WallTime answered,
                                       SteadyTime::duration took);

/// Seconds as they are told in JSON: with milliseconds, which is as fine as times are known.
[[nodiscard]] double rounded_seconds(std::chrono::nanoseconds time);

/// RFC 3339 in UTC with milliseconds: "2026-03-01T12:30:05.250Z".
[[nodiscard]] std::string format_rfc3339(WallTime time);
[[nodiscard]] Result<WallTime> parse_rfc3339(std::string_view text);

}  // namespace mirror
