// SPDX-License-Identifier: BSD-3-Clause
// `active_at_boot`: a volume of which the configuration says so is promoted here after the machine
// has started, under the rules of a plain promotion and never against them. Once a boot: as soon as
// it was done, or anybody else has decided about the volume's role, RUN_DIR/VOLUME.boot says so.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"
#include "daemon/keepers.hpp"

namespace mirror::daemon {

/// The role of this volume was decided since the machine started: nothing happens by itself now.
/// Any thread; called by whatever changes roles.
void note_boot_decided(const NodeConfig& node, const std::string& volume);
[[nodiscard]] bool is_boot_decided(const NodeConfig& node, const std::string& volume);

/// One thread for all volumes, which tries them in turn. start() and stop() are main's.
class BootPromotions {
  public:
    /// Both outlive this.
    BootPromotions(const Context& context, const Keepers& keepers)
        : context_(context), keepers_(keepers) {}
    ~BootPromotions();  ///< stops
    BootPromotions(const BootPromotions&) = delete;
    BootPromotions& operator=(const BootPromotions&) = delete;

    /// After the keepers have started, once.
    [[nodiscard]] Result<void> start();
    /// Returns when the try that it is in has ended. Idempotent.
    void stop();

  private:
    /// A volume that is to be promoted. Touched by the thread alone.
    struct Task {
        VolumeKeeper* keeper = nullptr;
        SteadyTime began{};
        SteadyTime next{};
        std::chrono::milliseconds pause{1000};
        std::string reason;  ///< why not yet: as the last event said
    };

    void work(std::vector<Task> tasks);
    /// True when nothing is left to be done.
    [[nodiscard]] bool attempt(Task& task) const;
    void put_off(Task& task, const Error& why) const;
    [[nodiscard]] bool pause(std::chrono::milliseconds time);

    const Context& context_;
    const Keepers& keepers_;
    Mutex mutex_;
    CondVar changed_;
    bool stopping_ GUARDED_BY(mutex_) = false;
    Thread thread_;
};

}  // namespace mirror::daemon
