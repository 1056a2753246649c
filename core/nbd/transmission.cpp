// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/transmission.hpp"

#include <string_view>

#include "core/nbd/request_rules.hpp"

#ifdef MIRROR_FLUSH_EACH
#include "tests/bench/flush_each.hpp"
#endif

namespace mirror::nbd {
namespace {

/// Replies are sent before the batch's end when they grow beyond this.
constexpr std::size_t send_threshold = 1 * MiB;
}  // namespace

Transmission::Transmission(Stream& stream, const Negotiated& negotiated, const Breaker& breaker,
                           std::chrono::milliseconds stall_timeout)
    : stream_(stream),
      export_(*negotiated.exported),
      negotiated_(negotiated),
      structured_(negotiated.structured_replies),
      breaker_(breaker),
      stall_(stall_timeout),
      most_payload_(payload_limit(negotiated.traits)) {}

Result<void> Transmission::run() {
    for (;;) {
        const Result<std::size_t> got = input_.receive(stream_, needed_, stall_);
        if (!got) {
            return Failure(got.error());
        }
        if (*got == 0) {
            return {};
        }
        const Result<Outcome> outcome = serve_batch();
        // Also before the end: what was applied is answered.
        if (Result<void> sent = send_replies(); !sent) {
            return sent;
        }
        if (!outcome) {
            return Failure(outcome.error());
        }
        if (*outcome == Outcome::disconnect) {
            return {};
        }
    }
}

Result<Transmission::Outcome> Transmission::serve_batch() {
    needed_ = Request::wire_size;
    for (;;) {
        const std::span<const std::byte> bytes = input_.pending();
        if (bytes.size() < Request::wire_size) {
            return Outcome::go_on;
        }
        if (load_be<std::uint32_t>(bytes.data()) != request_magic) {
            return fail(ErrorKind::protocol, "a request does not begin with its magic number");
        }
        const Request request = Request::load(bytes.data());
        const bool is_write = static_cast<Command>(request.type) == Command::write;
        const std::size_t payload = is_write ? request.length : 0;
        if (payload > most_payload_) {
            return fail(ErrorKind::protocol, "a write of {} bytes", request.length);
        }
        if (bytes.size() < Request::wire_size + payload) {
            needed_ = Request::wire_size + payload;
            return Outcome::go_on;
        }
        if (breaker_.is_tripped()) {
            return fail(ErrorKind::refused, "the connection was ended");
        }
        if (static_cast<Command>(request.type) == Command::disconnect) {
            return Outcome::disconnect;
        }
        serve(request, bytes.subspan(Request::wire_size, payload));
        input_.consume(Request::wire_size + payload);
        if (export_.is_over()) {
            return Outcome::disconnect;
        }
        if (output_.size() > send_threshold) {
            if (Result<void> sent = send_replies(); !sent) {
                return Failure(sent.error());
            }
        }
    }
}

void Transmission::serve(const Request& request, std::span<const std::byte> payload) {
    if (const WireError error = check_request(request, negotiated_); error != WireError::none) {
        reply_error(request, error, "the request is not valid for this export");
        return;
    }
    switch (static_cast<Command>(request.type)) {
        case Command::read:
            serve_read(request);
            return;
        case Command::block_status:
            serve_block_status(request);
            return;
        default:
            break;
    }
    const WireError error = wire_error(apply(request, payload));
    const bool durable = (request.flags & command_flag::fua) != 0 ||
                         static_cast<Command>(request.type) == Command::flush ||
                         export_.wants_flush();
    if (error == WireError::none && durable) {
        unflushed_.push_back(output_.size());
    }
    append_simple_reply(output_, request.cookie, error);
}

Result<void> Transmission::apply(const Request& request, std::span<const std::byte> payload) {
    switch (static_cast<Command>(request.type)) {
        case Command::write:
            return export_.write(payload, request.offset);
        case Command::trim:
            return export_.trim(request.range());
        case Command::write_zeroes: {
            const bool keep = (request.flags & command_flag::no_hole) != 0;
            return export_.zero(request.range(), keep ? Space::keep_allocated : Space::may_free);
        }
        default:
            return {};  // a flush: done for the whole batch in send_replies()
    }
}

void Transmission::serve_read(const Request& request) {
    const std::size_t start = output_.size();
    const std::span<std::byte> data = append_read_reply(output_, request, structured_);
    if (const Result<void> done = export_.read(data, request.offset); !done) {
        output_.truncate(start);
        reply_error(request, wire_error(done), done.error().message);
        return;
    }
    fill_read_header(data, request, structured_);
}

void Transmission::serve_block_status(const Request& request) {
    const Result<std::vector<Extent>> extents = export_.extents(status_range(request));
    if (!extents) {
        reply_error(request, static_cast<WireError>(errno_of(extents.error())),
                    extents.error().message);
    } else if (!append_status_reply(output_, request, *extents)) {
        reply_error(request, WireError::io, "the extents of this range are not known");
    }
}

void Transmission::reply_error(const Request& request, WireError error, std::string_view text) {
    append_error_reply(output_, request, structured_, error, text);
}

Result<void> Transmission::send_replies() {
    if (!unflushed_.empty()) {
#ifdef MIRROR_FLUSH_EACH
        bench::requests_of_flush = unflushed_.size();
#endif
        const WireError error = wire_error(export_.flush());
        for (const std::size_t reply : unflushed_) {
            store_be(output_.at(reply) + sizeof(simple_reply_magic),
                     static_cast<std::uint32_t>(error));
        }
        unflushed_.clear();
    }
    if (output_.size() == 0) {
        return {};
    }
    Result<void> sent = stream_.send_all(output_.bytes(), Patience{.stall = stall_});
    output_.clear();
    return sent;
}

}  // namespace mirror::nbd
