// SPDX-License-Identifier: BSD-3-Clause
// The bytes of one connection, whatever carries them: a plain socket here, TLS in tls_stream.hpp.
// One thread receives and sends; shutdown() may come from any thread while the object lives.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"
#include "core/base/fd.hpp"

namespace mirror::nbd {

/// How long a call may wait for the other side.
struct Patience {
    /// Not later than this, however much moves.
    SteadyTime until = SteadyTime::max();
    /// Not longer than this without a byte moving.
    std::chrono::milliseconds stall = std::chrono::milliseconds::max();

    [[nodiscard]] bool is_endless() const noexcept {
        return until == SteadyTime::max() && stall == std::chrono::milliseconds::max();
    }
};

class Stream {
  public:
    virtual ~Stream() = default;

    /// At least one byte; 0 when the other side has closed.
    [[nodiscard]] virtual Result<std::size_t> recv_some(std::span<std::byte> into,
                                                        const Patience& patience) = 0;
    [[nodiscard]] virtual Result<void> send_all(std::span<const std::byte> from,
                                                const Patience& patience) = 0;
    /// Ends both directions: calls that wait return. Any thread; never waits.
    virtual void shutdown() noexcept = 0;
};

/// Fills `into` wholly; a close of the other side is an error.
[[nodiscard]] Result<void> recv_exactly(Stream& stream, std::span<std::byte> into,
                                        const Patience& patience);

/// A connected socket in blocking mode. An endless wait is one plain recv(); only what has a
/// deadline pays for poll().
class SocketStream final : public Stream {
  public:
    explicit SocketStream(Fd fd) noexcept : fd_(std::move(fd)) {}

    [[nodiscard]] Result<std::size_t> recv_some(std::span<std::byte> into,
                                                const Patience& patience) override;
    [[nodiscard]] Result<void> send_all(std::span<const std::byte> from,
                                        const Patience& patience) override;
    void shutdown() noexcept override;
    /// The socket, when the stream is of no further use.
    [[nodiscard]] Fd release() noexcept { return std::move(fd_); }

  private:
    [[nodiscard]] Result<void> wait(short events, const Patience& patience) const;

    Fd fd_;
};

}  // namespace mirror::nbd
