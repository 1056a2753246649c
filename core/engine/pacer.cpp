// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/pacer.hpp"

#include <algorithm>

namespace mirror {
namespace {

/// A piece that takes so many times what it takes undisturbed is in somebody's way.
constexpr double disturbed = 2.0;
/// What "undisturbed" is grows by this with each piece, so that one lucky piece (from a cache) does
/// not make all others look slow for ever.
constexpr double forgetting = 1.02;

}  // namespace

void Pacer::set_rate(std::uint64_t bytes_per_second) noexcept {
    if (rate_ != bytes_per_second) {
        rate_ = bytes_per_second;
        due_ = {};
    }
}

Pacer::Duration Pacer::rest_after(std::uint64_t bytes, SteadyTime began, SteadyTime ended) {
    if (bytes == 0) {
        return {};
    }
    Duration rest = courtesy(bytes, ended - began);
    if (rate_ != 0) {
        // Time in which nothing was done is not made up for: that would be a burst.
        const double seconds = static_cast<double>(bytes) / static_cast<double>(rate_);
        due_ = std::max(due_, began) +
               std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
        rest = std::max(rest, due_ - ended);
    }
    return std::max(rest, Duration{});
}

Pacer::Duration Pacer::courtesy(std::uint64_t bytes, Duration took) {
    const double seconds = std::chrono::duration<double>(took).count();
    const double per_byte = seconds / static_cast<double>(bytes);
    const double grown = undisturbed_seconds_ * forgetting;
    undisturbed_seconds_ = undisturbed_seconds_ == 0 ? per_byte : std::min(grown, per_byte);
    if (per_byte <= undisturbed_seconds_ * disturbed) {
        return {};
    }
    return std::min<Duration>(took, longest_courtesy);
}

}  // namespace mirror
