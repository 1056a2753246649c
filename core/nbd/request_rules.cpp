// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/request_rules.hpp"

#include <algorithm>
#include <cstring>

namespace mirror::nbd {
namespace {

/// More of an error's text does not help a client.
constexpr std::size_t max_error_text = 256;
constexpr std::size_t max_extents = 1024;
constexpr std::uint64_t max_status_range = 1 * GiB;

bool has_other_flags(const Request& request, const Traits& traits, unsigned known) noexcept {
    // proto.md: FUA is to be ignored where it has no meaning, since clients set it everywhere.
    known |= traits.flush ? command_flag::fua : 0U;
    return (request.flags & ~known) != 0;
}

WireError check_change(const Request& request, const Traits& traits, bool offered, unsigned flags,
                       WireError beyond_end) noexcept {
    if (!offered || has_other_flags(request, traits, flags)) {
        return WireError::inval;
    }
    if (traits.read_only) {
        return WireError::perm;
    }
    if (request.length == 0) {
        return WireError::inval;
    }
    return request.range().fits_in(traits.size) ? WireError::none : beyond_end;
}

std::byte* store_structured(std::byte* to, ReplyType type, std::uint64_t cookie,
                            std::size_t length) noexcept {
    to = store_be(to, structured_reply_magic);
    to = store_be(to, reply_done);
    to = store_be(to, static_cast<std::uint16_t>(type));
    to = store_be(to, cookie);
    return store_be(to, static_cast<std::uint32_t>(length));
}

std::size_t read_header_size(bool structured) noexcept {
    return structured ? structured_reply_size + sizeof(Request::offset) : simple_reply_size;
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

}  // namespace

WireError check_request(const Request& request, const Negotiated& with) noexcept {
    const Traits& traits = with.traits;
    const auto valid_if = [](bool valid) { return valid ? WireError::none : WireError::inval; };
    const bool in_range = request.length != 0 && request.range().fits_in(traits.size);
    switch (static_cast<Command>(request.type)) {
        case Command::read: {
            const unsigned flags = with.structured_replies ? command_flag::df : 0U;
            return valid_if(in_range && request.length <= max_payload &&
                            !has_other_flags(request, traits, flags));
        }
        case Command::write:
            return check_change(request, traits, true, 0, WireError::nospc);
        case Command::write_zeroes:
            return check_change(request, traits, traits.zero, command_flag::no_hole,
                                WireError::nospc);
        case Command::trim:
            return check_change(request, traits, traits.trim, 0, WireError::inval);
        case Command::flush:
            return valid_if(traits.flush && request.length == 0 && request.offset == 0 &&
                            !has_other_flags(request, traits, 0));
        case Command::block_status:
            return valid_if(with.allocation && in_range &&
                            !has_other_flags(request, traits, command_flag::req_one));
        case Command::disconnect:
            break;
    }
    return WireError::inval;
}

std::uint64_t payload_limit(const Traits& traits) noexcept {
    constexpr std::uint64_t answered = 64 * KiB;
    return traits.read_only ? answered : std::clamp(traits.size, answered, max_payload);
}

ByteRange status_range(const Request& request) noexcept {
    return {request.offset, std::min<std::uint64_t>(request.length, max_status_range)};
}

WireError wire_error(const Result<void>& result) noexcept {
    if (result) {
        return WireError::none;
    }
    // One number of its own, so that the other side can say what happened.
    return result.error().kind == ErrorKind::corrupt
               ? WireError::shutdown
               : static_cast<WireError>(errno_of(result.error()));
}

void append_simple_reply(ReplyBuffer& to, std::uint64_t cookie, WireError error) {
    std::byte* place = to.append(simple_reply_size);
    place = store_be(place, simple_reply_magic);
    place = store_be(place, static_cast<std::uint32_t>(error));
    store_be(place, cookie);
}

void append_error_reply(ReplyBuffer& to, const Request& request, bool structured, WireError error,
                        std::string_view text) {
    if (!structured) {
        append_simple_reply(to, request.cookie, error);
        return;
    }
    text = text.substr(0, max_error_text);
    const std::size_t length = sizeof(std::uint32_t) + sizeof(std::uint16_t) + text.size();
    std::byte* place = store_structured(to.append(structured_reply_size + length), ReplyType::error,
                                        request.cookie, length);
    place = store_be(place, static_cast<std::uint32_t>(error));
    place = store_be(place, static_cast<std::uint16_t>(text.size()));
    std::memcpy(place, text.data(), text.size());
}

std::span<std::byte> append_read_reply(ReplyBuffer& to, const Request& request, bool structured) {
    const std::size_t header = read_header_size(structured);
    return {to.append(header + request.length) + header, request.length};
}

void fill_read_header(std::span<std::byte> data, const Request& request, bool structured) noexcept {
    std::byte* const place = data.data() - read_header_size(structured);
    if (structured) {
        std::byte* const chunk = store_structured(place, ReplyType::offset_data, request.cookie,
                                                  sizeof(request.offset) + request.length);
        store_be(chunk, request.offset);
    } else {
        store_be(store_be(store_be(place, simple_reply_magic), std::uint32_t{0}), request.cookie);
    }
}

bool append_status_reply(ReplyBuffer& to, const Request& request,
                         const std::vector<Extent>& extents) {
    const bool one = (request.flags & command_flag::req_one) != 0;
    const std::vector<Extent> summary =
        summarise(extents, status_range(request), one ? 1 : max_extents);
    if (summary.empty()) {
        return false;
    }
    const std::size_t length = sizeof(context_id) + summary.size() * 2 * sizeof(std::uint32_t);
    std::byte* place = store_structured(to.append(structured_reply_size + length),
                                        ReplyType::block_status, request.cookie, length);
    place = store_be(place, context_id);
    for (const Extent& extent : summary) {
        place = store_be(place, static_cast<std::uint32_t>(extent.range.length));
        place = store_be(place, extent.hole ? state_hole | state_zero : 0U);
    }
    return true;
}

}  // namespace mirror::nbd
