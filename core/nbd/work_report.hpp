// SPDX-License-Identifier: BSD-3-Clause
// What a standby says of the work at its disk (docs/design.md, section 6.2), as it travels: a
// 32-bit big-endian number for each lane, which is what waits in line for the disk together. 0:
// nothing of the lane is at the disk; else one more than the milliseconds since its work last got
// on. Pure; any thread.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/nbd/wire.hpp"

namespace mirror::nbd {

/// Lane 0 is what control requests want of the disk (a session's begin and end); the others are the
/// connections of the session in the order in which they were opened.
inline constexpr std::size_t work_lanes = 8;
inline constexpr std::size_t control_lane = 0;
inline constexpr std::size_t first_connection_lane = 1;
inline constexpr std::size_t work_report_size = work_lanes * sizeof(std::uint32_t);

/// The name of the export of it behind the volume's.
inline constexpr const char* progress_export = "/progress";

/// Since when a lane's work stands still; none: nothing of it is at the disk.
using WorkReport = std::array<std::optional<std::chrono::milliseconds>, work_lanes>;

inline void store_work_report(std::span<std::byte, work_report_size> to,
                              const WorkReport& report) noexcept {
    std::byte* place = to.data();
    for (const auto& still : report) {
        constexpr std::int64_t most = 0xFFFF'FFFE;
        const auto value =
            still ? std::min<std::int64_t>(std::max<std::int64_t>(still->count(), 0), most) + 1 : 0;
        place = store_be(place, static_cast<std::uint32_t>(value));
    }
}

[[nodiscard]] inline WorkReport load_work_report(
    std::span<const std::byte, work_report_size> from) noexcept {
    WorkReport report;
    for (std::size_t lane = 0; lane < work_lanes; ++lane) {
        const auto value = load_be<std::uint32_t>(from.data() + lane * sizeof(std::uint32_t));
        if (value != 0) {
            report[lane] = std::chrono::milliseconds(value - 1);
        }
    }
    return report;
}

}  // namespace mirror::nbd
