// SPDX-License-Identifier: BSD-3-Clause
// What the targets' disks offer to a client: everything.
#pragma once

#include "core/nbd/export.hpp"

namespace mirror::fuzz {

[[nodiscard]] inline nbd::Traits disk_traits(std::uint64_t size, bool read_only) {
    return {.size = size,
            .read_only = read_only,
            .flush = true,
            .trim = true,
            .zero = true,
            .multi_conn = true,
            .extents = true,
            .description = "a disk in memory"};
}

}  // namespace mirror::fuzz
