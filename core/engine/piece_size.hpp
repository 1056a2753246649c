// SPDX-License-Identifier: BSD-3-Clause
// How much a resync sends with one command. A command that is unanswered for peer_timeout ends the
// session, however many bytes moved meanwhile; so on a slow link large pieces would end each
// session before anything got done. Pieces begin with one block and double while answers come fast,
// which costs a handful of small requests; they halve when answers take long. Any thread;
// lock-free.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "core/maps/geometry.hpp"

namespace mirror {

class PieceSize {
  public:
    static constexpr std::uint64_t most_blocks = region_size / block_size;

    [[nodiscard]] std::uint64_t blocks() const noexcept { return blocks_.load(); }

    /// A piece of so many blocks was answered after so long. Pieces that were under way together
    /// speak of one and the same size: only the first of them changes it.
    void answered(std::uint64_t sent_blocks, std::chrono::nanoseconds took) noexcept {
        using std::chrono::milliseconds;
        constexpr milliseconds fast{50};
        constexpr milliseconds slow{250};
        std::uint64_t now = blocks_.load();
        if (took < fast && sent_blocks >= now) {
            blocks_.compare_exchange_strong(now, std::min(sent_blocks * 2, most_blocks));
        } else if (took > slow && sent_blocks <= now) {
            blocks_.compare_exchange_strong(now, std::max<std::uint64_t>(sent_blocks / 2, 1));
        }
    }

  private:
    std::atomic<std::uint64_t> blocks_{1};
};

}  // namespace mirror
