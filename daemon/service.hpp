// SPDX-License-Identifier: BSD-3-Clause
// mirrord as a service: its directories, one instance a run_dir, readiness for systemd. Called
// from main's thread.
#pragma once

#include <string>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/config/config.hpp"

namespace mirror::daemon {

/// RUN_DIR (0755), with parents. Refused where others could change what is in it, or it has been
/// made by somebody else.
[[nodiscard]] Result<void> make_run_dir(const NodeConfig& node);
/// The same, and STATE_DIR (0700).
[[nodiscard]] Result<void> make_directories(const NodeConfig& node);

/// Holds RUN_DIR/mirrord.lock for the life of the process; `busy` names the pid of the
/// process that has it locked.
class Instance {
  public:
    [[nodiscard]] static Result<Instance> claim(const std::string& run_dir);
    /// Whether the lock's file is still the one that others would open.
    [[nodiscard]] bool is_named() const;
    /// After somebody removed the file: locks a new one, before another mirrord does.
    [[nodiscard]] Result<void> name_again();

  private:
    Instance(Fd lock, std::string run_dir) : lock_(std::move(lock)), run_dir_(std::move(run_dir)) {}
    Fd lock_;
    std::string run_dir_;
};

/// sd_notify(3) by hand: one datagram to $NOTIFY_SOCKET; nothing when that is not set.
void notify_service_manager(const std::string& state) noexcept;

}  // namespace mirror::daemon
