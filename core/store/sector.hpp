// SPDX-License-Identifier: BSD-3-Clause
// The unit of which the size of every disk is a multiple.
#pragma once

#include <cstdint>

namespace mirror {

inline constexpr std::uint64_t sector_size = 512;

[[nodiscard]] constexpr bool is_sector_multiple(std::uint64_t bytes) noexcept {
    return bytes % sector_size == 0;
}

}  // namespace mirror
