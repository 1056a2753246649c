// SPDX-License-Identifier: BSD-3-Clause
// The link's half of frames (core/nbd/frame.hpp): turns what a caller asks for into the NBD
// commands that carry it, in buffers that stay with their commands and are used again. For
// LinkDriver alone; in the caller's thread of a request, no lock needed.
#pragma once

#include <cstdint>

#include "core/nbd/buffers.hpp"
#include "core/nbd/frame.hpp"
#include "core/nbd/link_request.hpp"

namespace mirror::nbd {

/// Bytes as they travel; `capacity` grows to the largest request and stays, up to keep_at_most.
class WireBuffer {
  public:
    [[nodiscard]] std::span<std::byte> take(std::size_t length) {
        if (length > bytes_.capacity()) {
            bytes_.reset(length);
        }
        length_ = length;
        return {bytes_.data(), length};
    }
    [[nodiscard]] std::span<std::byte> bytes() noexcept { return {bytes_.data(), length_}; }
    void give_back_if_large() {
        length_ = 0;
        if (bytes_.capacity() > keep_at_most) {
            bytes_.reset(0);
        }
    }

  private:
    static constexpr std::size_t keep_at_most = 256 * KiB;
    RawBuffer bytes_{0};
    std::size_t length_ = 0;
};

/// Larger writes go apart from their frame: one more small command costs less than the copy.
inline constexpr std::uint64_t copied_at_most = 64 * KiB;

[[nodiscard]] inline bool goes_apart(const LinkRequest& request) noexcept {
    return request.verb == Verb::write && request.range.length > copied_at_most;
}
/// Null, or why this request cannot be sent to an export of this size, with these
/// transmission_flags.
[[nodiscard]] const char* objection(const LinkRequest& request, std::uint64_t size,
                                    std::uint16_t flags) noexcept;
/// The same for a framed export, where frames carry everything.
[[nodiscard]] const char* objection(const LinkRequest& request, std::uint64_t size) noexcept;
/// Without its number.
[[nodiscard]] FrameHeader header_of(const LinkRequest& request) noexcept;

}  // namespace mirror::nbd
