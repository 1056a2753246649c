// SPDX-License-Identifier: BSD-3-Clause
// The other side's bytes, in pieces, as a stream without a socket.
#pragma once

#include <algorithm>

#include "core/base/units.hpp"
#include "core/nbd/stream.hpp"
#include "input.hpp"

namespace mirror::fuzz {

class MemoryStream final : public nbd::Stream {
  public:
    /// `piece` 0: all at once.
    MemoryStream(Bytes input, std::size_t piece)
        : rest_(input), piece_(piece == 0 ? input.size() : piece) {}

    Result<std::size_t> recv_some(std::span<std::byte> into, const nbd::Patience&) override {
        require(!into.empty(), "there is room for what is received");
        const std::size_t count = ended_ ? 0 : std::min({into.size(), piece_, rest_.size()});
        std::copy_n(rest_.begin(), count, into.begin());
        rest_ = rest_.subspan(count);
        return count;
    }
    Result<void> send_all(std::span<const std::byte> from, const nbd::Patience&) override {
        require(from.size() <= most_in_one_send, "what is sent does not pile up");
        return {};
    }
    void shutdown() noexcept override { ended_ = true; }

  private:
    /// Of one batch of replies and what comes behind the threshold.
    static constexpr std::size_t most_in_one_send = 64 * MiB;

    Bytes rest_;
    const std::size_t piece_;
    bool ended_ = false;
};

}  // namespace mirror::fuzz
