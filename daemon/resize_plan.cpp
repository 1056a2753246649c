// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/resize_plan.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "core/base/units.hpp"
#include "core/store/sector.hpp"

namespace mirror::daemon {
namespace {

/// What the metadata are read with (core/meta).
constexpr std::uint64_t largest_volume = 8192 * TiB;

Failure refuse(std::string reason, std::string remedy) {
    return Failure(Error{ErrorKind::refused, std::move(reason), std::move(remedy)});
}

std::string words(std::uint64_t bytes) {
    return fmt::format("{} ({} bytes)", format_size(bytes), bytes);
}

/// Without a wish: what was begun is finished; else all that the devices have.
Result<std::uint64_t> size_by_itself(const ResizeWish& wish, const ResizeSide& active,
                                     const ResizeSide& standby) {
    if (active.replica != standby.replica) {
        return std::max(active.replica, standby.replica);
    }
    std::uint64_t size = std::numeric_limits<std::uint64_t>::max();
    for (const ResizeSide* side : {&active, &standby}) {
        if (side->is_device) {
            size = std::min(size, side->backing / sector_size * sector_size);
        }
    }
    if (!active.is_device && !standby.is_device) {
        return refuse(fmt::format("the backings of {} are files: give the new size", wish.volume),
                      fmt::format("mirrorctl resize {} SIZE", wish.volume));
    }
    return std::max(size, active.replica);
}

Result<std::uint64_t> wanted_size(const ResizeWish& wish, const ResizeSide& active,
                                  const ResizeSide& standby) {
    if (wish.more) {
        if (*wish.more > largest_volume) {
            return require_volume_size(*wish.more).map([] { return std::uint64_t{0}; });
        }
        return active.replica + *wish.more;
    }
    return wish.size ? Result<std::uint64_t>(*wish.size) : size_by_itself(wish, active, standby);
}

/// All devices that are too short, in one sentence.
std::string too_short(std::uint64_t size, const ResizeSide& active, const ResizeSide& standby) {
    std::string text;
    for (const ResizeSide* side : {&active, &standby}) {
        if (side->is_device && side->backing < size) {
            text += fmt::format("{}the device of {} has {}", text.empty() ? "" : ", ", side->node,
                                words(side->backing));
        }
    }
    return text;
}

}  // namespace

Result<void> require_volume_size(std::uint64_t bytes) {
    if (bytes == 0 || !is_sector_multiple(bytes)) {
        return fail(ErrorKind::refused, "{} bytes: a volume is a multiple of {} bytes", bytes,
                    sector_size);
    }
    if (bytes > largest_volume) {
        return fail(ErrorKind::refused, "{} bytes are too many: the largest volume has {}", bytes,
                    format_size(largest_volume));
    }
    return {};
}

Result<std::uint64_t> choose_size(const ResizeWish& wish, const ResizeSide& active,
                                  const ResizeSide& standby) {
    const auto size = wanted_size(wish, active, standby);
    if (!size) {
        return size;
    }
    if (auto possible = require_volume_size(*size); !possible) {
        return Failure(possible.error());
    }
    if (*size < active.replica) {
        return refuse(
            fmt::format("{} has {}, and {} is less: a volume never shrinks", wish.volume,
                        words(active.replica), words(*size)),
            "the data beyond the new end would be lost; create a smaller volume and copy the data");
    }
    if (*size < standby.replica) {
        return refuse(fmt::format("an earlier resize of {} to {} was cut short after it reached "
                                  "{}, and a replica never shrinks",
                                  wish.volume, words(standby.replica), standby.node),
                      fmt::format("mirrorctl resize {} finishes it", wish.volume));
    }
    if (const std::string short_ones = too_short(*size, active, standby); !short_ones.empty()) {
        return refuse(
            fmt::format("{} can't be resized to {}: {}", wish.volume, words(*size), short_ones),
            "grow the devices first (lvextend), or give a smaller size");
    }
    return size;
}

std::string size_reminder(const VolumeConfig& volume, std::uint64_t bytes) {
    if (!volume.size || *volume.size == bytes) {
        return {};
    }
    const std::string exact = bytes % GiB == 0   ? fmt::format("{}GiB", bytes / GiB)
                              : bytes % MiB == 0 ? fmt::format("{}MiB", bytes / MiB)
                                                 : fmt::format("{}B", bytes);
    return fmt::format(
        "; set size = \"{}\" in [volume.{}] of the configuration of both nodes, where "
        "it is {}",
        exact, volume.name, format_size(*volume.size));
}

}  // namespace mirror::daemon
