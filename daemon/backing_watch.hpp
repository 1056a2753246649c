// SPDX-License-Identifier: BSD-3-Clause
// Finds out when the file or device at a backing's path is no longer the one that is open: it was
// renamed, removed, or another one took its place. Nothing is lost until it is closed, and then all
// of it; so it is told while somebody can act. One thread of its own, since a look may hang.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/base/periodic.hpp"
#include "daemon/keepers.hpp"

namespace mirror::daemon {

class BackingWatch {
  public:
    explicit BackingWatch(const Keepers& keepers) : keepers_(keepers) {}
    ~BackingWatch() { stop(); }
    BackingWatch(const BackingWatch&) = delete;
    BackingWatch& operator=(const BackingWatch&) = delete;

    [[nodiscard]] Result<void> start();
    void stop();

  private:
    void look(VolumeKeeper& keeper);

    const Keepers& keepers_;
    std::map<std::string, std::string> told_;  ///< the thread's own: by volume, what was reported
    Periodic periodic_;
};

}  // namespace mirror::daemon
