// SPDX-License-Identifier: BSD-3-Clause
// CRC32C for what is written to disk and read back, XXH3-128 for comparing blocks between
// replicas that trust each other. Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/id.hpp"

namespace mirror {

/// CRC-32C (Castagnoli, reflected, as in RFC 3720 B.4); `seed` chains calls.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes,
                                   std::uint32_t seed = 0) noexcept;

namespace detail {
/// The same for processors without the instruction; on its own for the tests.
[[nodiscard]] std::uint32_t crc32c_by_table(std::span<const std::byte> bytes,
                                            std::uint32_t seed) noexcept;
}  // namespace detail

using Digest = std::array<std::byte, 16>;

/// XXH3-128 with a secret derived from a session, so that digests of one session say nothing in
/// another one.
class Digester {
  public:
    explicit Digester(const SessionId& session);
    [[nodiscard]] Digest operator()(std::span<const std::byte> bytes) const noexcept;

  private:
    std::array<std::byte, 192> secret_{};  // XXH3's default secret size
};

/// Whether every byte is zero.
[[nodiscard]] bool is_zero(std::span<const std::byte> bytes) noexcept;

}  // namespace mirror
