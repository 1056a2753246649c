// SPDX-License-Identifier: BSD-3-Clause
// One accepted connection, from the greeting to its end. run() belongs to the connection's thread;
// everybody else only holds the breaker.
#pragma once

#include <memory>

#include "core/base/fd.hpp"
#include "core/nbd/breaker.hpp"
#include "core/nbd/export.hpp"
#include "core/nbd/handshake.hpp"
#include "core/nbd/server.hpp"
#include "core/nbd/stream.hpp"

namespace mirror::nbd {

class Connection {
  public:
    /// `tls` as for Handshake; must outlive it.
    Connection(Fd socket, const ServerLimits& limits, const tls::Credentials* tls);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    /// Once. Returns when the connection is over, its export destroyed and its socket closed.
    /// Whatever happens in it, the process goes on.
    void run(ExportProvider& provider, Admission& admission) noexcept;

    [[nodiscard]] const std::shared_ptr<Breaker>& breaker() const noexcept { return breaker_; }
    [[nodiscard]] const Client& client() const noexcept { return client_; }

  private:
    [[nodiscard]] Result<void> serve(ExportProvider& provider, Admission& admission);

    const ServerLimits& limits_;
    const tls::Credentials* const tls_;
    Client client_;
    std::unique_ptr<Stream> stream_;
    std::shared_ptr<Breaker> breaker_;
};

}  // namespace mirror::nbd
