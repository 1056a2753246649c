// SPDX-License-Identifier: BSD-3-Clause
// Connections to an engine that the kernel can use: negotiated, and given away. An interface, since
// the attacher's tests have no engine. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"

namespace mirror::daemon {

struct EngineConnections {
    std::vector<Fd> sockets;
    std::uint64_t size = 0;
    std::uint64_t flags = 0;  ///< NBD_FLAG_* of the transmission
};

class EngineDialler {
  public:
    virtual ~EngineDialler() = default;
    /// `count` connections to the export `volume` at the Unix socket. A few seconds at most.
    [[nodiscard]] virtual Result<EngineConnections> dial(const std::string& socket,
                                                         const std::string& volume,
                                                         unsigned count) = 0;
};

class NbdDialler final : public EngineDialler {
  public:
    [[nodiscard]] Result<EngineConnections> dial(const std::string& socket,
                                                 const std::string& volume,
                                                 unsigned count) override;
};

}  // namespace mirror::daemon
