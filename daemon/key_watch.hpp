// SPDX-License-Identifier: BSD-3-Clause
// Keeps those out whose key was taken out of the file, or whose certificate was revoked or is too
// old: looks at the files every second, and ends their connections. Who may still come in connects
// again with another key at once. One thread of its own.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/periodic.hpp"
#include "core/nbd/server.hpp"
#include "core/tls/standing.hpp"
#include "daemon/context.hpp"

namespace mirror::daemon {

class KeyWatch {
  public:
    KeyWatch(const Context& context, nbd::Server& server) : context_(context), server_(server) {}
    ~KeyWatch() { stop(); }
    KeyWatch(const KeyWatch&) = delete;
    KeyWatch& operator=(const KeyWatch&) = delete;

    /// Does nothing where nothing is encrypted.
    [[nodiscard]] Result<void> start();
    void stop();

  private:
    using Told = std::set<std::pair<std::string, std::string>>;

    void look();
    void tell_keys();
    void tell_trouble();
    void end_connections();

    const Context& context_;
    nbd::Server& server_;
    // The thread's own.
    std::optional<tls::Standing> standing_;
    std::vector<std::string> keys_;  ///< as they were seen last
    bool in_trouble_ = false;
    Told told_;  ///< of whom was told that his connections end: host and why
    Periodic periodic_;
};

/// A link was ended because of `objection`; `whose` as in "the link to beta".
[[nodiscard]] Event key_retired_event(const std::string& whose, const std::string& objection);

}  // namespace mirror::daemon
