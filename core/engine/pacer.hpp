// SPDX-License-Identifier: BSD-3-Clause
// How fast work in the background may go: no faster than a rate, and slower while others want the
// same disks and link, which shows in the time that a piece takes. Pure, given the times; for one
// thread.
#pragma once

#include <chrono>
#include <cstdint>

#include "core/base/clock.hpp"

namespace mirror {

class Pacer {
  public:
    using Duration = SteadyTime::duration;
    /// The longest rest for others' sake: the work must come to an end also on a busy machine.
    static constexpr std::chrono::milliseconds longest_courtesy{500};

    /// A rate of 0 is no limit.
    void set_rate(std::uint64_t bytes_per_second) noexcept;

    /// How long to rest after a piece of `bytes` was worked on from `began` to `ended`.
    [[nodiscard]] Duration rest_after(std::uint64_t bytes, SteadyTime began, SteadyTime ended);

  private:
    [[nodiscard]] Duration courtesy(std::uint64_t bytes, Duration took);

    std::uint64_t rate_ = 0;
    SteadyTime due_{};                ///< when the rate allows the next piece
    double undisturbed_seconds_ = 0;  ///< what a byte takes when nobody is in the way; 0: unknown
};

}  // namespace mirror
