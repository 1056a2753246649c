// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/loop_client.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <utility>

#include "core/nbd/request_rules.hpp"

namespace mirror::nbd {
namespace {

/// Larger payloads are received into their request's own buffer.
constexpr std::size_t copied_at_most = 64 * KiB;
constexpr std::size_t input_capacity = 256 * KiB + Request::wire_size + copied_at_most;

AsyncRequest::Verb verb_of(Command command) noexcept {
    switch (command) {
        case Command::read:
            return AsyncRequest::Verb::read;
        case Command::write:
            return AsyncRequest::Verb::write;
        case Command::trim:
        case Command::write_zeroes:
            return AsyncRequest::Verb::zero;
        case Command::block_status:
            return AsyncRequest::Verb::extents;
        default:
            return AsyncRequest::Verb::flush;
    }
}

std::size_t buffer_of(const Request& header) noexcept {
    const auto command = static_cast<Command>(header.type);
    return command == Command::read || command == Command::write ? header.length : 0;
}

/// A client that was shut out (a volume that is demoted) hears what nbdkit says then.
WireError client_error(const Result<void>& result) noexcept {
    const bool refused = !result && result.error().kind == ErrorKind::refused;
    return refused ? WireError::shutdown : wire_error(result);
}

}  // namespace

void AsyncRequest::ready() noexcept {
    queue_->post(*this);
}

std::unique_ptr<AsyncRequest> RequestStock::take(std::size_t length) {
    auto& fitting = length > small && !with_large_.empty() ? with_large_ : with_small_;
    std::unique_ptr<AsyncRequest> request;
    if (fitting.empty()) {
        request = export_.make_request();
        request->queue_ = &queue_;
    } else {
        request = std::move(fitting.back());
        fitting.pop_back();
        kept_ -= &fitting == &with_large_ ? request->buffer_.capacity() : 0;
    }
    if (request->buffer_.capacity() < length) {
        request->buffer_.reset(length);
    }
    request->data = {request->buffer_.data(), length};
    return request;
}

void RequestStock::give_back(std::unique_ptr<AsyncRequest> request) {
    const std::size_t capacity = request->buffer_.capacity();
    if (capacity <= small) {
        with_small_.push_back(std::move(request));
    } else if (kept_ + capacity <= most_kept) {
        kept_ += capacity;
        with_large_.push_back(std::move(request));
    } else {
        request->buffer_.reset(0);
        with_small_.push_back(std::move(request));
    }
}

LoopClient::LoopClient(Fd socket, Negotiated negotiated, AsyncExport& exported, RequestStock& stock,
                       std::size_t most_unsent)
    : socket_(std::move(socket)),
      negotiated_(std::move(negotiated)),
      most_payload_(payload_limit(negotiated_.traits)),
      most_unsent_(most_unsent),
      export_(exported),
      stock_(stock),
      input_(input_capacity) {}

void LoopClient::receive() {
    if (over_) {
        return;
    }
    make_room();
    std::array<iovec, 2> parts{};
    std::size_t count = 0;
    if (incoming_) {
        const auto rest = incoming_->data.subspan(incoming_bytes_);
        parts[count++] = {rest.data(), rest.size()};
    }
    parts[count++] = {input_.data() + end_, input_.capacity() - end_};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
    if (got > 0) {
        take_in(static_cast<std::size_t>(got));
        parse();
    } else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        over_ = true;
        broken_ = broken_ || got < 0;
    }
}

void LoopClient::take_in(std::size_t received) noexcept {
    if (incoming_) {
        const std::size_t rest = incoming_->data.size() - incoming_bytes_;
        const std::size_t mine = std::min(rest, received);
        incoming_bytes_ += mine;
        received -= mine;
    }
    end_ += received;
}

void LoopClient::make_room() {
    if (begin_ == 0) {
        return;
    }
    std::memmove(input_.data(), input_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
}

void LoopClient::parse() {
    if (incoming_) {
        if (incoming_bytes_ < incoming_->data.size()) {
            return;
        }
        if (is_refused(incoming_->header_)) {
            stock_.give_back(std::move(incoming_));
        } else {
            begin(std::move(incoming_));
        }
    }
    while (!over_ && parse_one() == Parsed::one_more) {
    }
}

LoopClient::Parsed LoopClient::parse_one() {
    if (end_ - begin_ < Request::wire_size || is_full()) {
        return Parsed::all;
    }
    const std::byte* const front = input_.data() + begin_;
    const Request header = Request::load(front);
    const auto command = static_cast<Command>(header.type);
    const std::size_t payload = command == Command::write ? header.length : 0;
    if (load_be<std::uint32_t>(front) != request_magic || payload > most_payload_ ||
        command == Command::disconnect) {
        over_ = true;
        return Parsed::all;
    }
    const std::size_t arrived = end_ - begin_ - Request::wire_size;
    if (arrived < payload && payload > copied_at_most) {
        return take_payload_apart(header);
    }
    if (arrived < payload) {
        return Parsed::all;
    }
    begin_ += Request::wire_size + payload;
    start(header, {front + Request::wire_size, payload});
    return Parsed::one_more;
}

/// What is refused is received all the same, since a reply is owed.
LoopClient::Parsed LoopClient::take_payload_apart(const Request& header) {
    incoming_ = stock_.take(header.length);
    incoming_->header_ = header;
    incoming_bytes_ = end_ - begin_ - Request::wire_size;
    std::memcpy(incoming_->data.data(), input_.data() + begin_ + Request::wire_size,
                incoming_bytes_);
    begin_ = end_;
    return Parsed::all;
}

void LoopClient::start(const Request& header, std::span<const std::byte> payload) {
    if (is_refused(header)) {
        return;
    }
    const std::size_t before = output_.size();
    if (static_cast<Command>(header.type) == Command::read && header.length <= most_unsent_) {
        // Straight into the reply, where the data are at hand.
        const auto data = append_read_reply(output_, header, negotiated_.structured_replies);
        if (export_.read_at_once(data, header.offset)) {
            fill_read_header(data, header, negotiated_.structured_replies);
            if (unsent() > most_unsent_) {
                send();
            }
            return;
        }
        output_.truncate(before);
    }
    std::unique_ptr<AsyncRequest> request = stock_.take(buffer_of(header));
    request->header_ = header;
    if (!payload.empty()) {
        std::memcpy(request->data.data(), payload.data(), payload.size());
    }
    begin(std::move(request));
}

/// Before a buffer is made for it: nothing bounds the length in an invalid one.
bool LoopClient::is_refused(const Request& header) {
    const WireError error = check_request(header, negotiated_);
    if (error == WireError::none) {
        return false;
    }
    append_error_reply(output_, header, negotiated_.structured_replies, error,
                       "the request is not valid for this export");
    return true;
}

void LoopClient::begin(std::unique_ptr<AsyncRequest> request) {
    const Request& header = request->header_;
    const auto command = static_cast<Command>(header.type);
    request->verb = verb_of(command);
    request->range = command == Command::block_status ? status_range(header) : header.range();
    request->fua = (header.flags & command_flag::fua) != 0;
    request->space = command == Command::write_zeroes && (header.flags & command_flag::no_hole) != 0
                         ? Space::keep_allocated
                         : Space::may_free;
    request->result = {};
    request->client_ = this;
    ++requests_;
    bytes_ += request->data.size();
    AsyncRequest& begun = *request.release();  // the export's until it is answered
    bool is_answered = true;
    try {
        is_answered = export_.begin(begun);
    } catch (const std::bad_alloc&) {  // it was not taken: it would be waited for without end
        begun.result = fail_errno(ENOMEM, "the request can't be begun");
    }
    if (is_answered) {
        answer(begun);
    }
}

void LoopClient::answer(AsyncRequest& request) {
    try {
        reply(request);
    } catch (const std::bad_alloc&) {
        note_hang_up();  // an answer that can't be given; the client sees the connection end
    }
    release(request);
}

void LoopClient::release(AsyncRequest& request) {
    --requests_;
    bytes_ -= request.data.size();
    stock_.give_back(std::unique_ptr<AsyncRequest>(&request));
}

void LoopClient::reply(AsyncRequest& request) {
    const Request& header = request.header_;
    const bool structured = negotiated_.structured_replies;
    if (broken_) {
        return;
    }
    if (!request.result) {
        append_error_reply(output_, header, structured, client_error(request.result),
                           request.result.error().message);
    } else if (request.verb == AsyncRequest::Verb::read) {
        const auto data = append_read_reply(output_, header, structured);
        std::memcpy(data.data(), request.data.data(), data.size());
        fill_read_header(data, header, structured);
    } else if (request.verb != AsyncRequest::Verb::extents) {
        append_simple_reply(output_, header.cookie, WireError::none);
    } else if (!append_status_reply(output_, header, request.extents)) {
        append_error_reply(output_, header, structured, WireError::io,
                           "the extents of this range are not known");
    }
}

bool LoopClient::settle() {
    is_touched = false;
    send();
    if (over_ || is_full() || end_ - begin_ < Request::wire_size) {
        return false;
    }
    const std::size_t before = begin_;
    parse();
    send();
    return begin_ != before;
}

void LoopClient::send() {
    while (!broken_ && unsent() != 0) {
        const ssize_t sent =
            ::send(socket_.get(), output_.at(sent_), unsent(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            sent_ += static_cast<std::size_t>(sent);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            note_hang_up();
        }
    }
    output_.clear();
    sent_ = 0;
}

void LoopClient::note_hang_up() noexcept {
    broken_ = true;
    over_ = true;
}

std::uint32_t LoopClient::wanted_events() const noexcept {
    const bool reads = !over_ && !is_full();
    const bool writes = !broken_ && unsent() != 0;
    return (reads ? EPOLLIN : 0U) | (writes ? EPOLLOUT : 0U);
}

}  // namespace mirror::nbd
