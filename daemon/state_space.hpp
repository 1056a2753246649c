// SPDX-License-Identifier: BSD-3-Clause
// Whether the filesystem of STATE_DIR can still take what mirrord and the engines write there, told
// while there is time: the metadata have their space, but not events, undo files, records of
// comparisons and new volumes. Two functions for any thread, and a watch with a thread of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/base/periodic.hpp"
#include "daemon/context.hpp"

namespace mirror::daemon {

class VolumeKeeper;
class Keepers;

struct StateSpace {
    std::uint64_t total_bytes = 0;
    std::uint64_t free_bytes = 0;   ///< for who is not root, so that warnings come early
    std::uint64_t total_files = 0;  ///< 0: the filesystem has no limit
    std::uint64_t free_files = 0;
    bool read_only = false;

    /// 64 MiB or a tenth of the filesystem, whichever is less.
    [[nodiscard]] std::uint64_t low_mark() const noexcept;
};

[[nodiscard]] Result<StateSpace> state_space(const std::string& state_dir);

/// A sentence with its next step; empty: nothing is wrong.
[[nodiscard]] std::string state_space_warning(const NodeConfig& node,
                                              const Result<StateSpace>& space);

/// Writes an event when space gets short and when it is there again; and gives metadata that found
/// none their space as soon as they can have it.
class StateSpaceWatch {
  public:
    StateSpaceWatch(const Context& context, const Keepers& keepers)
        : context_(context), keepers_(keepers) {}
    ~StateSpaceWatch() { stop(); }
    StateSpaceWatch(const StateSpaceWatch&) = delete;
    StateSpaceWatch& operator=(const StateSpaceWatch&) = delete;

    [[nodiscard]] Result<void> start();
    void stop();

  private:
    void look();

    const Context& context_;
    const Keepers& keepers_;
    bool is_low_ = false;  ///< the thread's own
    Periodic periodic_;
};

}  // namespace mirror::daemon
