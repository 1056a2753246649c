// SPDX-License-Identifier: BSD-3-Clause
// --disconnect-clients of whoever asks over the network: the option is granted to a peer only where
// remote_verbs is full. Else it counts for nothing, so that clients who come in between are as safe
// as those that are seen here; and the refusal says what would work. Called from a request's
// thread.
#pragma once

#include <string>
#include <utility>

#include "daemon/audience.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

class CutOff {
  public:
    /// `command` does it on this node, without the option.
    CutOff(VolumeKeeper& keeper, const Asking& asking, bool is_wanted, std::string command)
        : keeper_(keeper),
          is_granted_(is_wanted && asking.may_all()),
          is_withheld_(is_wanted && !is_granted_),
          command_(std::move(command) + " --disconnect-clients") {}

    [[nodiscard]] bool is_granted() const noexcept { return is_granted_; }
    /// Refused while there are clients that the option was meant for.
    [[nodiscard]] Result<void> require() const;
    /// A failure without the option, to somebody who gave it.
    [[nodiscard]] Error explain(Error error) const;

  private:
    VolumeKeeper& keeper_;
    const bool is_granted_;
    const bool is_withheld_;
    const std::string command_;
};

}  // namespace mirror::daemon
