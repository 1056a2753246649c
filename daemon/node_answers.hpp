// SPDX-License-Identifier: BSD-3-Clause
// What mirrord says of this node and its volumes: to people (`status`, `version`) and to its peers
// (`peer-status`). Called by the threads of connections, many at once.
#pragma once

#include <set>
#include <string>

#include "core/control/pages.hpp"
#include "core/nbd/export.hpp"
#include "daemon/keepers.hpp"
#include "daemon/peer_watch.hpp"

namespace mirror::daemon {

class NodeAnswers {
  public:
    NodeAnswers(const Context& context, const Keepers& keepers, const PeerWatch& peers)
        : context_(context), keepers_(keepers), peers_(peers) {}

    [[nodiscard]] Json version() const;
    [[nodiscard]] Result<Json> status(const Json& request) const;
    /// `claimed`: the node that the request names as its own.
    [[nodiscard]] Result<Json> peer_status(const Json& request, const std::string& claimed,
                                           const nbd::Client& client) const;

  private:
    [[nodiscard]] Result<void> require_node(const std::string& claimed,
                                            const nbd::Client& client) const;
    [[nodiscard]] Json nodes_seen(const std::set<std::string>& names, const Json& volumes) const;
    [[nodiscard]] Json unsupervised_engines() const;
    [[nodiscard]] Result<Json> volumes_for(const Json& request, const nbd::Client& client) const;
    void add_to_peer_status(const std::string& name, bool is_now, Json& answer,
                            control::Page& page) const;

    const Context& context_;
    const Keepers& keepers_;
    const PeerWatch& peers_;
};

}  // namespace mirror::daemon
