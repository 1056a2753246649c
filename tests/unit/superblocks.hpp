// SPDX-License-Identifier: BSD-3-Clause
// A superblock in which every field differs from its default.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "core/base/units.hpp"
#include "core/meta/superblock.hpp"

namespace mirror::test {

[[nodiscard]] inline Superblock full_superblock(std::uint64_t size) {
    Superblock block;
    block.sequence = 41;
    block.volume = random_id<VolumeId>();
    block.volume_name = "r0";
    block.node = "alpha";
    block.peer = std::string(63, 'p');
    block.size = size;
    block.role = Role::active;
    block.state = ReplicaState::inconsistent;
    block.unclean = true;
    block.last_active = true;
    block.solo = true;
    block.paused = true;
    block.session = random_id<SessionId>();
    block.created = WallTime(std::chrono::microseconds(1));
    block.last_update = WallTime(std::chrono::microseconds(-2));
    block.break_at = WallTime(std::chrono::seconds(3));
    block.synced_at = WallTime(std::chrono::hours(1000000));
    block.media_errors = ~std::uint64_t{0};
    block.yields_to = random_id<GenerationId>();
    block.lacking_bytes = ~std::uint64_t{1};
    block.steps = {.taken = 1, .offered = ~std::uint64_t{0}, .content = 3, .maps_from = 4};
    block.backing_mark = ~std::uint64_t{2};
    block.backing_identity = std::string(127, 'i');
    block.doubtful = true;
    for (std::size_t i = 0; i < Lineage::capacity; ++i) {
        block.lineage.begin(random_id<GenerationId>(), WallTime(std::chrono::seconds(i)),
                            std::string(i, 'n'), static_cast<GenerationReason>(i % 6),
                            i == 0 ? largest_step : i);
    }
    return block;
}

}  // namespace mirror::test
