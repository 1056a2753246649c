// SPDX-License-Identifier: BSD-3-Clause
// Which size a volume gets, and why not: the rules of a resize without any I/O. Values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/error.hpp"
#include "core/config/config.hpp"

namespace mirror::daemon {

/// What one node offers.
struct ResizeSide {
    std::string node;
    std::uint64_t replica = 0;  ///< bytes that its metadata say
    std::uint64_t backing = 0;  ///< bytes of its file or device
    bool is_device = false;     ///< can't be made longer here
};

struct ResizeWish {
    std::string volume;
    std::optional<std::uint64_t> size;  ///< the whole
    std::optional<std::uint64_t> more;  ///< or what is added; neither: all that the devices have
};

/// That a volume can have so many bytes.
[[nodiscard]] Result<void> require_volume_size(std::uint64_t bytes);

/// The new size, which is the old one of both where nothing is to be done; else why not.
[[nodiscard]] Result<std::uint64_t> choose_size(const ResizeWish& wish, const ResizeSide& active,
                                                const ResizeSide& standby);

/// "; set size = \"320MiB\" …" where the configuration has another one; empty: it has none, or
/// this. A replica that is made anew gets the size that stands there.
[[nodiscard]] std::string size_reminder(const VolumeConfig& volume, std::uint64_t bytes);

}  // namespace mirror::daemon
