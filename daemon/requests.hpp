// SPDX-License-Identifier: BSD-3-Clause
// The table of requests (docs/design.md, section 7): who may ask what, and who carries it out.
// handle() is called from many connections' threads at once; it never throws.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/nbd/export.hpp"
#include "daemon/peer_watch.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

using Keepers = std::map<std::string, std::unique_ptr<VolumeKeeper>>;

class Requests {
  public:
    /// The set of keepers is fixed before the first request.
    Requests(const Context& context, Keepers& keepers, PeerWatch& peers)
        : context_(context), keepers_(keepers), peers_(peers) {}

    [[nodiscard]] Result<Json> handle(const Json& request, const nbd::Client& client);

    /// The keeper of that volume, or why there is none on this node.
    [[nodiscard]] Result<VolumeKeeper*> keeper(const std::string& volume) const;

  private:
    [[nodiscard]] Result<Json> dispatch(const std::string& name, const Json& request,
                                        bool is_local);
    [[nodiscard]] Json version() const;
    [[nodiscard]] Result<Json> status(const Json& request) const;
    [[nodiscard]] Json peer_status() const;

    const Context& context_;
    Keepers& keepers_;
    PeerWatch& peers_;
};

/// Requests on the Unix socket: root, or whoever mirrord runs as.
[[nodiscard]] bool is_local_admin(const nbd::Client& client) noexcept;

}  // namespace mirror::daemon
