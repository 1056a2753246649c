// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/connection.hpp"

#include <exception>

#include "core/nbd/listener.hpp"
#include "core/nbd/tcp_options.hpp"
#include "core/nbd/transmission.hpp"

namespace mirror::nbd {

Connection::Connection(Fd socket, const ServerLimits& limits, const tls::Credentials* tls)
    : limits_(limits), tls_(tls), client_(identify(socket.get())) {
    set_tcp_options(socket.get(), limits.stall_timeout);
    stream_ = std::make_unique<SocketStream>(std::move(socket));
    breaker_ = std::make_shared<Breaker>(*stream_);
}

void Connection::run(ExportProvider& provider, Admission& admission) noexcept {
    try {
        // How a client's connection ends is the client's affair; what matters of it (a session
        // that is over) the export sees by its destruction.
        (void)serve(provider, admission);
    } catch (const std::exception&) {
        // Most likely out of memory: this connection ends, the others go on.
    }
    breaker_->disarm();
    stream_.reset();
}

Result<void> Connection::serve(ExportProvider& provider, Admission& admission) {
    Handshake handshake(*stream_, provider, admission, client_, tls_, limits_.handshake_timeout);
    const Result<Negotiated> negotiated = handshake.run();
    if (!negotiated) {
        return Failure(negotiated.error());
    }
    Stream& stream = negotiated->encrypted ? *negotiated->encrypted : *stream_;
    return Transmission(stream, *negotiated, *breaker_, limits_.stall_timeout).run();
}

}  // namespace mirror::nbd
