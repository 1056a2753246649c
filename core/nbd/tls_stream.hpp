// SPDX-License-Identifier: BSD-3-Clause
// A TLS session over another stream: what a connection becomes after STARTTLS. On the thread of its
// connection; shutdown() from any. Borrows the stream below.
#pragma once

#include "core/nbd/stream.hpp"
#include "core/tls/session.hpp"

namespace mirror::nbd {

class TlsStream final : public Stream {
  public:
    TlsStream(Stream& below, tls::Session session) noexcept
        : below_(below), session_(std::move(session)) {}
    /// Says goodbye if that can be sent at once.
    ~TlsStream() override;
    TlsStream(const TlsStream&) = delete;
    TlsStream& operator=(const TlsStream&) = delete;

    /// Before everything else. The other side is told why it fails.
    [[nodiscard]] Result<void> handshake(const Patience& patience);
    [[nodiscard]] const tls::Proof& proof() const noexcept { return session_.proof(); }
    /// The session goes on elsewhere, and this stream is of no further use.
    [[nodiscard]] tls::Session take_session() noexcept;

    [[nodiscard]] Result<std::size_t> recv_some(std::span<std::byte> into,
                                                const Patience& patience) override;
    [[nodiscard]] Result<void> send_all(std::span<const std::byte> from,
                                        const Patience& patience) override;
    void shutdown() noexcept override { below_.shutdown(); }

  private:
    [[nodiscard]] Result<void> bring_input(const Patience& patience);
    [[nodiscard]] Result<void> send_output(const Patience& patience);

    Stream& below_;
    tls::Session session_;
    bool is_whole_ = true;  ///< nothing failed, and the session was not taken
};

}  // namespace mirror::nbd
