// SPDX-License-Identifier: BSD-3-Clause
// What a LoopServer serves: an export whose requests are submitted and answered later, so that one
// thread can have many under way. The server makes no copy of what a request points to; it stays
// until the request was answered.
//
// All but make_request() are called by the thread that has the loop, one at a time, and must not
// wait, but for end_batch() as it says. Everything else that a request
// needs happens on threads of the export's own; they call AsyncRequest::ready().
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/units.hpp"
#include "core/nbd/buffers.hpp"
#include "core/nbd/turn.hpp"
#include "core/nbd/wire.hpp"
#include "core/store/store.hpp"

namespace mirror::nbd {

class LoopClient;
class ReadyQueue;

class AsyncRequest {
  public:
    enum class Verb { read, write, zero, flush, extents };

    virtual ~AsyncRequest() = default;
    AsyncRequest(const AsyncRequest&) = delete;
    AsyncRequest& operator=(const AsyncRequest&) = delete;

    // What is asked for; ranges were checked.
    Verb verb = Verb::flush;
    ByteRange range;
    Space space = Space::may_free;  ///< zero
    bool fua = false;               ///< write, zero
    std::span<std::byte> data;      ///< write: what; read: where to
    Result<void> result;            ///< the answer
    std::vector<Extent> extents{};  ///< the answer, too

    /// There is something to go on with. From any thread, once for each time that begin() or
    /// go_on() said "not yet"; the request may be gone when it returns.
    void ready() noexcept;

  protected:
    AsyncRequest() = default;

  private:
    friend class LoopClient;
    friend class ReadyQueue;
    friend class RequestStock;

    // The server's own.
    ReadyQueue* queue_ = nullptr;
    AsyncRequest* next_ready_ = nullptr;
    LoopClient* client_ = nullptr;
    Request header_{};
    RawBuffer buffer_{0};  ///< kept between requests, as far as the stock allows
};

class AsyncExport {
  public:
    virtual ~AsyncExport() = default;

    /// The loop waits for this epoll instance: what the export puts into it with `mark` is reported
    /// by receive(). -1: the loop ends, and nothing may be in it any more.
    virtual void use_poll(int /*poll*/, void* /*mark*/) {}
    virtual void receive() {}

    /// For any number of requests, one after the other.
    [[nodiscard]] virtual std::unique_ptr<AsyncRequest> make_request() = 0;
    /// A read that needs no waiting, without a request; false: it needs one.
    [[nodiscard]] virtual bool read_at_once(std::span<std::byte> into, std::uint64_t offset) = 0;
    /// True: it is answered. False: not yet. Where it throws std::bad_alloc it has not taken the
    /// request, and never says ready().
    [[nodiscard]] virtual bool begin(AsyncRequest& request) = 0;
    /// After its ready().
    [[nodiscard]] virtual bool go_on(AsyncRequest& request) = 0;
    /// Everything that had arrived was begun: what was held back to be sent together is sent. Here
    /// the loop's thread may do what mostly takes no time and might wait, each such piece between
    /// turn.begin_wait() and turn.end_wait(). False as soon as the latter is: then the calling
    /// thread must not touch anything of the loop's, and another one calls end_batch() again.
    [[nodiscard]] virtual bool end_batch(Turn& turn) = 0;
};

}  // namespace mirror::nbd
