// SPDX-License-Identifier: BSD-3-Clause
// One client of a LoopServer: bytes come in, complete requests are begun all together, replies go
// out all together, in the order in which they are ready. Payloads of up to 64 KiB are copied out
// of the receive buffer, larger ones received where they are needed. So many requests and bytes are
// under way at most; a client that does not fetch its answers gets no further ones.
//
// The loop's thread alone, but for what the AsyncRequests do. It must stay until none of its
// requests is under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/fd.hpp"
#include "core/nbd/async_export.hpp"
#include "core/nbd/buffers.hpp"
#include "core/nbd/handshake.hpp"
#include "core/nbd/ready_queue.hpp"

namespace mirror::nbd {

/// Requests that are not in use, and their buffers; one for all clients of a server.
class RequestStock {
  public:
    RequestStock(AsyncExport& exported, ReadyQueue& queue) : export_(exported), queue_(queue) {}

    /// With room for `length` bytes in its buffer.
    [[nodiscard]] std::unique_ptr<AsyncRequest> take(std::size_t length);
    void give_back(std::unique_ptr<AsyncRequest> request);

  private:
    /// Larger buffers are kept apart, and only so many bytes of them.
    static constexpr std::size_t small = 64 * KiB;
    static constexpr std::size_t most_kept = 32 * MiB;

    AsyncExport& export_;
    ReadyQueue& queue_;
    std::vector<std::unique_ptr<AsyncRequest>> with_small_;
    std::vector<std::unique_ptr<AsyncRequest>> with_large_;
    std::size_t kept_ = 0;  ///< bytes in with_large_
};

class LoopClient {
  public:
    /// The kernel's NBD client has 128 requests under way at most.
    static constexpr std::size_t most_requests = 128;
    /// One more may exceed it.
    static constexpr std::uint64_t most_bytes = 64 * MiB;
    static constexpr std::size_t usual_unsent = 1 * MiB;

    /// With more than `most_unsent` bytes of answers not fetched it gets no further ones.
    LoopClient(Fd socket, Negotiated negotiated, AsyncExport& exported, RequestStock& stock,
               std::size_t most_unsent);
    LoopClient(const LoopClient&) = delete;
    LoopClient& operator=(const LoopClient&) = delete;

    [[nodiscard]] int socket() const noexcept { return socket_.get(); }

    /// The socket has something: one recv, and what is complete then is begun.
    void receive();
    /// An answer is ready (AsyncExport::go_on said so).
    void answer(AsyncRequest& request);
    [[nodiscard]] static LoopClient& client_of(const AsyncRequest& request) noexcept {
        return *request.client_;
    }
    /// Sends what is ready, and begins what waited for a place. True: something was begun, and
    /// settle() is due again, since the socket may never report anything for what still waits.
    [[nodiscard]] bool settle();
    /// Nothing that comes from it is begun any more.
    void end() noexcept { over_ = true; }
    /// The socket is broken: what waits to be sent never will be.
    void note_hang_up() noexcept;

    /// What to wait for at the socket now: EPOLLIN, EPOLLOUT, both or none.
    [[nodiscard]] std::uint32_t wanted_events() const noexcept;
    /// It is over, and none of its requests is under way.
    [[nodiscard]] bool is_done() const noexcept {
        return over_ && requests_ == 0 && (broken_ || unsent() == 0);
    }

    /// The server's note of what epoll knows, and whether settle() is due.
    std::uint32_t watched_events = 0;
    bool is_touched = false;

  private:
    enum class Parsed { all, one_more };

    [[nodiscard]] bool is_full() const noexcept {
        return requests_ >= most_requests || bytes_ >= most_bytes || unsent() > most_unsent_;
    }
    [[nodiscard]] std::size_t unsent() const noexcept { return output_.size() - sent_; }

    void take_in(std::size_t received) noexcept;
    void parse();
    /// The request at the input's front; `all`: there is no complete one, or no place for it.
    [[nodiscard]] Parsed parse_one();
    [[nodiscard]] Parsed take_payload_apart(const Request& header);
    void start(const Request& header, std::span<const std::byte> payload);
    [[nodiscard]] bool is_refused(const Request& header);
    void begin(std::unique_ptr<AsyncRequest> request);
    void release(AsyncRequest& request);
    void reply(AsyncRequest& request);
    void make_room();
    void send();

    const Fd socket_;
    const Negotiated negotiated_;
    const std::uint64_t most_payload_;
    const std::size_t most_unsent_;
    AsyncExport& export_;
    RequestStock& stock_;

    RawBuffer input_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::unique_ptr<AsyncRequest> incoming_;  ///< a large write whose payload is being received
    std::size_t incoming_bytes_ = 0;          ///< of it, so far

    ReplyBuffer output_;
    std::size_t sent_ = 0;  ///< of output_

    std::size_t requests_ = 0;  ///< under way
    std::uint64_t bytes_ = 0;   ///< of theirs
    bool over_ = false;
    bool broken_ = false;
};

}  // namespace mirror::nbd
