// SPDX-License-Identifier: BSD-3-Clause
// The second part of a connection: requests and replies, in batches. All complete requests of one
// recv are applied in order; their replies leave in one send. FLUSH and FUA requests of a batch
// share one Export::flush(), called after the batch's last write: each of them was applied before
// that flush began, so it covers them all. Their replies are written before it, since nothing is
// sent until the flush is done, and are turned into errors if it fails.
//
// Lives on the connection's thread; nothing is allocated per request.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/error.hpp"
#include "core/nbd/breaker.hpp"
#include "core/nbd/buffers.hpp"
#include "core/nbd/handshake.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::nbd {

class Transmission {
  public:
    /// Reads from `negotiated` as long as it lives.
    Transmission(Stream& stream, const Negotiated& negotiated, const Breaker& breaker,
                 std::chrono::milliseconds stall_timeout);

    /// Until the client disconnects (no error), breaks the protocol, stalls, or the breaker trips.
    [[nodiscard]] Result<void> run();

  private:
    /// Whether the connection goes on.
    enum class Outcome { go_on, disconnect };

    [[nodiscard]] Result<Outcome> serve_batch();
    void serve(const Request& request, std::span<const std::byte> payload);
    [[nodiscard]] Result<void> apply(const Request& request, std::span<const std::byte> payload);
    void serve_read(const Request& request);
    void serve_block_status(const Request& request);

    void reply_error(const Request& request, WireError error, std::string_view text);
    [[nodiscard]] Result<void> send_replies();

    Stream& stream_;
    Export& export_;
    const Negotiated& negotiated_;
    const bool structured_;
    const Breaker& breaker_;
    const std::chrono::milliseconds stall_;
    const std::uint64_t most_payload_;

    ReceiveBuffer input_;
    std::size_t needed_ = Request::wire_size;  ///< of the request at the input's front
    ReplyBuffer output_;
    /// Where in output_ the simple replies are that wait for the batch's flush.
    std::vector<std::size_t> unflushed_;
};

}  // namespace mirror::nbd
