// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/transmission.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#ifdef MIRROR_FLUSH_EACH
#include "tests/bench/flush_each.hpp"
#endif

namespace mirror::nbd {
namespace {

/// Replies are sent before the batch's end when they grow beyond this.
constexpr std::size_t send_threshold = 1 * MiB;
/// More of an error's text does not help a client.
constexpr std::size_t max_error_text = 256;
constexpr std::size_t max_extents = 1024;
/// The part of a BLOCK_STATUS request that is looked at; a reply may cover less than was asked.
constexpr std::uint64_t max_status_range = 1 * GiB;

WireError wire_error(const Result<void>& result) noexcept {
    if (result) {
        return WireError::none;
    }
    // One number of its own, so that the other side can say what happened.
    return result.error().kind == ErrorKind::corrupt
               ? WireError::shutdown
               : static_cast<WireError>(errno_of(result.error()));
}

std::byte* store_structured(std::byte* to, ReplyType type, std::uint64_t cookie,
                            std::size_t length) noexcept {
    to = store_be(to, structured_reply_magic);
    to = store_be(to, reply_done);
    to = store_be(to, static_cast<std::uint16_t>(type));
    to = store_be(to, cookie);
    return store_be(to, static_cast<std::uint32_t>(length));
}

/// Within `range` from its beginning, neighbours of one kind joined, at most `most` of them.
std::vector<Extent> summarise(const std::vector<Extent>& extents, ByteRange range,
                              std::size_t most) {
    std::vector<Extent> summary;
    std::uint64_t reached = range.offset;
    for (const Extent& extent : extents) {
        const std::uint64_t end = std::min(extent.range.end(), range.end());
        if (extent.range.offset > reached || end <= reached) {
            continue;
        }
        if (!summary.empty() && summary.back().hole == extent.hole) {
            summary.back().range.length += end - reached;
        } else if (summary.size() == most) {
            break;
        } else {
            summary.push_back({{reached, end - reached}, extent.hole});
        }
        reached = end;
    }
    return summary;
}

/// What no write of this export can be longer than is not received first and refused then: it would
/// only fill memory. Small ones are answered in any case.
std::uint64_t payload_limit(const Traits& traits) noexcept {
    constexpr std::uint64_t answered = 64 * KiB;
    return traits.read_only ? answered : std::clamp(traits.size, answered, max_payload);
}

}  // namespace

Transmission::Transmission(Stream& stream, const Negotiated& negotiated, const Breaker& breaker,
                           std::chrono::milliseconds stall_timeout)
    : stream_(stream),
      export_(*negotiated.exported),
      traits_(negotiated.traits),
      structured_(negotiated.structured_replies),
      allocation_(negotiated.allocation),
      breaker_(breaker),
      stall_(stall_timeout),
      most_payload_(payload_limit(traits_)) {}

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
    if (const WireError error = check(request); error != WireError::none) {
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
    reply_simple(request.cookie, error);
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

bool Transmission::has_other_flags(const Request& request, unsigned known) const noexcept {
    // proto.md: FUA is to be ignored where it has no meaning, since clients set it everywhere.
    known |= traits_.flush ? command_flag::fua : 0U;
    return (request.flags & ~known) != 0;
}

WireError Transmission::check_change(const Request& request, bool offered, unsigned flags,
                                     WireError beyond_end) const noexcept {
    if (!offered || has_other_flags(request, flags)) {
        return WireError::inval;
    }
    if (traits_.read_only) {
        return WireError::perm;
    }
    if (request.length == 0) {
        return WireError::inval;
    }
    return request.range().fits_in(traits_.size) ? WireError::none : beyond_end;
}

WireError Transmission::check(const Request& request) const noexcept {
    const auto valid_if = [](bool valid) { return valid ? WireError::none : WireError::inval; };
    const bool in_range = request.length != 0 && request.range().fits_in(traits_.size);
    switch (static_cast<Command>(request.type)) {
        case Command::read: {
            const unsigned flags = structured_ ? command_flag::df : 0U;
            return valid_if(in_range && request.length <= max_payload &&
                            !has_other_flags(request, flags));
        }
        case Command::write:
            return check_change(request, true, 0, WireError::nospc);
        case Command::write_zeroes:
            return check_change(request, traits_.zero, command_flag::no_hole, WireError::nospc);
        case Command::trim:
            return check_change(request, traits_.trim, 0, WireError::inval);
        case Command::flush:
            return valid_if(traits_.flush && request.length == 0 && request.offset == 0 &&
                            !has_other_flags(request, 0));
        case Command::block_status:
            return valid_if(allocation_ && in_range &&
                            !has_other_flags(request, command_flag::req_one));
        case Command::disconnect:
            break;
    }
    return WireError::inval;
}

void Transmission::serve_read(const Request& request) {
    const std::size_t header =
        structured_ ? structured_reply_size + sizeof(request.offset) : simple_reply_size;
    const std::size_t start = output_.size();
    std::byte* const place = output_.append(header + request.length);
    std::byte* const data = place + header;
    if (const Result<void> done = export_.read({data, request.length}, request.offset); !done) {
        output_.truncate(start);
        reply_error(request, wire_error(done), done.error().message);
        return;
    }
    if (structured_) {
        std::byte* const chunk = store_structured(place, ReplyType::offset_data, request.cookie,
                                                  sizeof(request.offset) + request.length);
        store_be(chunk, request.offset);
    } else {
        store_be(store_be(store_be(place, simple_reply_magic), std::uint32_t{0}), request.cookie);
    }
}

void Transmission::serve_block_status(const Request& request) {
    const ByteRange range{request.offset,
                          std::min<std::uint64_t>(request.length, max_status_range)};
    const Result<std::vector<Extent>> extents = export_.extents(range);
    if (!extents) {
        reply_error(request, static_cast<WireError>(errno_of(extents.error())),
                    extents.error().message);
        return;
    }
    const bool one = (request.flags & command_flag::req_one) != 0;
    const std::vector<Extent> summary = summarise(*extents, range, one ? 1 : max_extents);
    if (summary.empty()) {
        reply_error(request, WireError::io, "the extents of this range are not known");
        return;
    }
    const std::size_t length = sizeof(context_id) + summary.size() * 2 * sizeof(std::uint32_t);
    std::byte* place = store_structured(output_.append(structured_reply_size + length),
                                        ReplyType::block_status, request.cookie, length);
    place = store_be(place, context_id);
    for (const Extent& extent : summary) {
        place = store_be(place, static_cast<std::uint32_t>(extent.range.length));
        place = store_be(place, extent.hole ? state_hole | state_zero : 0U);
    }
}

void Transmission::reply_simple(std::uint64_t cookie, WireError error) {
    std::byte* place = output_.append(simple_reply_size);
    place = store_be(place, simple_reply_magic);
    place = store_be(place, static_cast<std::uint32_t>(error));
    store_be(place, cookie);
}

void Transmission::reply_error(const Request& request, WireError error, std::string_view text) {
    if (!structured_) {
        reply_simple(request.cookie, error);
        return;
    }
    text = text.substr(0, max_error_text);
    const std::size_t length = sizeof(std::uint32_t) + sizeof(std::uint16_t) + text.size();
    std::byte* place = store_structured(output_.append(structured_reply_size + length),
                                        ReplyType::error, request.cookie, length);
    place = store_be(place, static_cast<std::uint32_t>(error));
    place = store_be(place, static_cast<std::uint16_t>(text.size()));
    std::memcpy(place, text.data(), text.size());
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
