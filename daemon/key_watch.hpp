// SPDX-License-Identifier: BSD-3-Clause
// Keeps those out whose key was taken out of the file: looks at it every second, and ends their
// connections. Who may still come in reconnects with another key at once. One thread of its own.
#pragma once

#include <string>
#include <vector>

#include "core/nbd/server.hpp"
#include "daemon/context.hpp"
#include "daemon/periodic.hpp"

namespace mirror::daemon {

class KeyWatch {
  public:
    KeyWatch(const Context& context, nbd::Server& server) : context_(context), server_(server) {}
    ~KeyWatch() { stop(); }
    KeyWatch(const KeyWatch&) = delete;
    KeyWatch& operator=(const KeyWatch&) = delete;

    /// Does nothing where there are no pre-shared keys.
    [[nodiscard]] Result<void> start();
    void stop();

  private:
    void look();

    const Context& context_;
    nbd::Server& server_;
    std::vector<std::string> keys_;  ///< the thread's own: as they were seen last
    Periodic periodic_;
};

}  // namespace mirror::daemon
