// SPDX-License-Identifier: BSD-3-Clause
// How much a standby zeroes with one request to its disk. A disk without a quick way writes the
// zeroes, and one request for all of them would be a long silence; another one takes the same time
// for a request of any size. So pieces grow while they are quick and shrink when they are not.
// Belongs to one connection's thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "core/base/units.hpp"

namespace mirror {

class ZeroPiece {
  public:
    static constexpr std::uint64_t least = 256 * KiB;
    static constexpr std::uint64_t most = 32 * MiB;

    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
    void done(std::uint64_t length, std::chrono::nanoseconds took) noexcept {
        using std::chrono::milliseconds;
        constexpr milliseconds quick{300};
        constexpr milliseconds slow{1000};
        if (took > slow) {
            bytes_ = std::max(bytes_ / 2, least);
        } else if (took < quick && length == bytes_) {
            bytes_ = std::min(bytes_ * 2, most);
        }
    }

  private:
    std::uint64_t bytes_ = 4 * MiB;
};

}  // namespace mirror
