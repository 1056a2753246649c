// SPDX-License-Identifier: BSD-3-Clause
// RUN_DIR may be cleaned under the running processes (systemd-tmpfiles, a cron job, rm). A thread
// looks after what lies there: mirrord's own socket and lock are made anew, the volumes' keepers
// make theirs (engine_files.hpp), and the marks of this boot are written again, so that a next
// mirrord knows what this one knew.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "core/base/periodic.hpp"
#include "core/nbd/server.hpp"
#include "daemon/keepers.hpp"
#include "daemon/service.hpp"

namespace mirror::daemon {

class RunDirWatch {
  public:
    /// All outlive this. `listen_again` binds mirrord's socket; it is called from the watch's
    /// thread, between start() and stop() only.
    RunDirWatch(const Context& context, const Keepers& keepers, Instance& instance,
                std::function<Result<void>()> listen_again)
        : context_(context),
          keepers_(keepers),
          instance_(instance),
          listen_again_(std::move(listen_again)) {}
    ~RunDirWatch() { stop(); }
    RunDirWatch(const RunDirWatch&) = delete;
    RunDirWatch& operator=(const RunDirWatch&) = delete;

    [[nodiscard]] Result<void> start();
    /// Idempotent.
    void stop();

  private:
    void look();
    void look_after_own_files();
    void look_after_boot_marks();

    const Context& context_;
    const Keepers& keepers_;
    Instance& instance_;
    const std::function<Result<void>()> listen_again_;
    std::set<std::string> decided_;  ///< the thread's: volumes whose role was decided in this boot
    std::string told_;               ///< the thread's: the failure that was reported last

    Periodic periodic_;
};

}  // namespace mirror::daemon
