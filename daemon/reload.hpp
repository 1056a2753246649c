// SPDX-License-Identifier: BSD-3-Clause
// The configuration is read again while mirrord runs: volumes come and go, and the settings of
// those that stay change, without a moment's interruption of any other volume. A file with a
// mistake is refused as a whole. What a reload can't change is named with the command that does
// (daemon/config_changes.hpp).
//
// Called from a request's thread and, for SIGHUP, from main's; one at a time. Every volume that is
// changed is held by its operation meanwhile, so that no role changes while a keeper is replaced;
// where one of them is busy, nothing is changed at all. Whoever reads a configuration, a home or a
// keeper needs no lock for it: see daemon/live_config.hpp and daemon/keepers.hpp.
//
// mutex_ makes reloads come one after the other; no reader, keeper or watch ever takes it. Under it
// files are read and events written, and the keepers that are replaced are waited for. Where a disk
// of theirs hangs, this reload hangs, and with it the next one and the end of mirrord, which waits
// for such a disk anyway.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/sync.hpp"
#include "daemon/config_changes.hpp"
#include "daemon/keepers.hpp"
#include "daemon/live_config.hpp"

namespace mirror::daemon {

class Reload {
  public:
    struct Parts {
        const Context& context;
        LiveConfig& live;
        Keepers& keepers;
        PeerWatch& peers;
        DeviceAttacher& devices;
        std::function<void()> on_volumes;  ///< after their number may have changed
    };

    /// All of it outlives this.
    explicit Reload(Parts parts) : parts_(std::move(parts)) {}

    /// `text`, and `changes` with what each still needs; with `dry_run` nothing is changed.
    [[nodiscard]] Result<Json> run(bool dry_run) EXCLUDES(mutex_);
    /// From now on; earlier ones are told to try again. After PeerWatch::start().
    void open() EXCLUDES(mutex_);
    /// Waits for one in progress; later ones are refused.
    void stop() EXCLUDES(mutex_);

  private:
    using Operations = std::map<std::string, VolumeKeeper::Operation>;

    [[nodiscard]] Result<Json> change(bool dry_run) REQUIRES(mutex_);
    [[nodiscard]] Result<Config> read_wanted() REQUIRES(mutex_);
    /// The volumes that are, or may be, other ones by `next`.
    [[nodiscard]] Result<Operations> hold(const Config& next) const REQUIRES(mutex_);
    [[nodiscard]] bool is_concerned(const VolumeKeeper& keeper, const Config& next) const;
    [[nodiscard]] Homes find_new_homes(const Config& next, const Operations& held) const;
    [[nodiscard]] std::vector<ConfigChange> changes_of_volumes(const Config& next,
                                                               const Operations& held) const;
    void apply(Config next, Operations held, std::vector<std::string>& failed) REQUIRES(mutex_);
    void change_volume(const std::string& name, VolumeKeeper::Operation operation,
                       const Homes& homes, std::vector<std::string>& failed) REQUIRES(mutex_);
    void add_volume(const VolumeHome& home, std::vector<std::string>& failed) REQUIRES(mutex_);
    void tell(const std::vector<ConfigChange>& changes, const std::vector<std::string>& failed);

    const Parts parts_;
    Mutex mutex_;
    bool is_open_ GUARDED_BY(mutex_) = false;
    bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace mirror::daemon
