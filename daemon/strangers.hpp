// SPDX-License-Identifier: BSD-3-Clause
// Tells the administrator of those who came to the port and could not prove who they are: an event,
// at most one a minute, with the number of those in between. A flood must not fill the disk.
// Called from connections' threads.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/sync.hpp"
#include "core/nbd/export.hpp"
#include "daemon/context.hpp"

namespace mirror::daemon {

class Strangers {
  public:
    explicit Strangers(const Context& context) : context_(context) {}
    void note(const nbd::Client& client, const Error& error) EXCLUDES(mutex_);

  private:
    const Context& context_;
    Mutex mutex_;
    std::optional<SteadyTime> told_ GUARDED_BY(mutex_);
    std::uint64_t untold_ GUARDED_BY(mutex_) = 0;
};

}  // namespace mirror::daemon
