// SPDX-License-Identifier: BSD-3-Clause
// What stands around a change of role: the hooks, and mounting the volume's device. Demotion and
// promotion call the steps in their places; one object for one change, on its thread. Nothing here
// knows of engines and replicas, so it is tested without them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/config/config.hpp"
#include "core/events/event_log.hpp"
#include "daemon/hooks.hpp"
#include "daemon/mounter.hpp"

namespace mirror::daemon {

class RoleSteps {
  public:
    using Record = std::function<void(std::string id, Severity severity, std::string text,
                                      std::string cause, std::string remedy)>;

    /// `config` and `mounter` outlive this.
    RoleSteps(const VolumeConfig& config, std::string node, Mounter& mounter, HookRunner hooks,
              Record record)
        : config_(config),
          node_(std::move(node)),
          mounter_(mounter),
          hooks_(std::move(hooks)),
          record_(std::move(record)) {}

    /// Whether the device answers. Without an engine a filesystem on it can't be unmounted, only
    /// cut off; that is what a user of `--disconnect-clients` wants.
    enum class Service { running, dead, cut_off };

    /// Hooks, then the unmounting. Refused: all is as it was, hooks were told `demote-cancelled`.
    [[nodiscard]] Result<void> before_demote(Service service = Service::running);
    /// The demotion failed later on, the volume is active still: mounts again, tells the hooks.
    void demote_cancelled();
    /// What could not be unmounted before is now, since its device is gone.
    void after_demote();

    /// `may_be_mounted`: the volume goes on where it was, under its mounts. Otherwise a mount is a
    /// left-over with old blocks in its cache, and a refusal.
    [[nodiscard]] Result<void> before_promote(bool may_be_mounted);
    void promote_cancelled();
    /// Mounts, then hooks; not these where the mount failed. What did not work, as the rest of a
    /// sentence ("; …"), or nothing.
    [[nodiscard]] std::string after_promote(bool is_attached);

    /// Whether the device is not mounted, and should be.
    [[nodiscard]] bool lacks_mount();
    [[nodiscard]] bool has_hooks() const { return hooks_.has_any(); }
    [[nodiscard]] bool has_run_hooks() const noexcept { return hooks_.has_run_any(); }
    /// Why unmounting would be refused, as far as that can be seen; for a dry run.
    [[nodiscard]] Result<void> require_leavable();
    /// The same about who uses the mount; hooks may stop them.
    [[nodiscard]] Result<void> require_no_users();
    /// "unmount /srv/data", "run the hooks in …".
    [[nodiscard]] std::vector<std::string> demotion_plan();
    [[nodiscard]] std::vector<std::string> promotion_plan();

  private:
    [[nodiscard]] Result<void> mount();
    [[nodiscard]] Result<void> unmount(Service service);
    [[nodiscard]] std::vector<std::string> mounts_elsewhere();
    [[nodiscard]] bool is_mounted();
    void tell(Occasion occasion);
    [[nodiscard]] Failure in_use(const std::string& users) const;
    Failure refuse_demotion(Error error);

    const VolumeConfig& config_;
    const std::string node_;
    Mounter& mounter_;
    HookRunner hooks_;
    const Record record_;
    bool was_unmounted_ = false;
};

}  // namespace mirror::daemon
