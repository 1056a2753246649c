// SPDX-License-Identifier: BSD-3-Clause
// RUN_DIR/VOLUME.active: the volume is active here, whether an engine runs or not. It is for one
// boot of the machine; where RUN_DIR outlives a boot, the boot's id in it says that it is an old
// one. Every mark that is meant for one boot carries this id. Any thread.
#pragma once

#include <cstddef>
#include <string>

#include "core/base/error.hpp"

namespace mirror::daemon {

/// Of the running kernel; empty where it tells none, so that all its boots are one.
[[nodiscard]] std::string boot_id();

/// A mark has a line or two.
inline constexpr std::size_t longest_mark = 4096;

struct ActiveMark {
    bool is_there = false;
    bool of_this_boot = false;
    /// The superblock says standby, though the volume is to go on when the peer agrees.
    bool waits_for_peer = false;

    /// Whether the volume was made active here since the machine started.
    [[nodiscard]] bool counts() const noexcept { return is_there && of_this_boot; }
};

[[nodiscard]] ActiveMark read_active_mark(const std::string& path, const std::string& boot);
[[nodiscard]] Result<void> write_active_mark(const std::string& path, const std::string& boot,
                                             bool waits_for_peer);

}  // namespace mirror::daemon
