// SPDX-License-Identifier: BSD-3-Clause
// Who uses a block device. The kernel itself answers whether somebody holds it (a mount in whatever
// namespace, swap, another device on top): an exclusive open fails. /proc and /sys say who it is.
// Any thread. Needs root to see other users' processes.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"

namespace mirror::daemon {

struct DeviceUsage {
    bool is_held = false;             ///< an exclusive open was refused
    std::vector<std::string> mounts;  ///< of the device or a partition, in any mount namespace
    bool is_swap = false;
    std::vector<std::string> holders;  ///< "dm-0", "loop3"
    std::vector<std::string> openers;  ///< "fio (pid 4711)"

    /// `busy`, with names and what to do about it; success when nobody uses the device.
    [[nodiscard]] Result<void> require_none(const std::string& device) const;
};

[[nodiscard]] DeviceUsage usage_of(const std::string& device);

/// An exclusive open: while it lives nobody can mount the device. `busy`, in the words of
/// DeviceUsage, while somebody uses it.
[[nodiscard]] Result<Fd> claim_device(const std::string& device);

}  // namespace mirror::daemon
