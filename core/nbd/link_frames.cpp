// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/link_frames.hpp"

#include <limits>

namespace mirror::nbd {

FrameHeader header_of(const LinkRequest& request) noexcept {
    FrameHeader header{.range = request.range};
    header.op = request.verb == Verb::write  ? FrameOp::write
                : request.verb == Verb::zero ? FrameOp::zero
                                             : FrameOp::flush;
    if ((request.flags & command_flag::fua) != 0) {
        header.flags |= frame_flag::fua;
    }
    if ((request.flags & command_flag::no_hole) != 0) {
        header.flags |= frame_flag::keep_allocated;
    }
    if (goes_apart(request)) {
        header.flags |= frame_flag::data_apart;
    }
    return header;
}

const char* objection(const LinkRequest& request, std::uint64_t size,
                      std::uint16_t flags) noexcept {
    const auto offers = [flags](std::uint16_t flag) { return (flags & flag) != 0; };
    if (request.verb == Verb::flush) {
        return offers(transmission_flag::send_flush) ? nullptr : "the peer offers no flush";
    }
    if (request.verb != Verb::read && offers(transmission_flag::read_only)) {
        return "the export is read-only";
    }
    if ((request.flags & command_flag::fua) != 0 && !offers(transmission_flag::send_fua)) {
        return "the peer offers no FUA";
    }
    if (request.verb == Verb::zero && !offers(transmission_flag::send_write_zeroes)) {
        return "the peer offers no zeroing";
    }
    if (request.range.empty()) {
        return "it is empty";
    }
    if (request.range.length > std::numeric_limits<std::uint32_t>::max()) {
        return "more than NBD can say in one request";
    }
    return objection(request, size);
}

const char* objection(const LinkRequest& request, std::uint64_t size) noexcept {
    if (request.verb == Verb::flush) {
        return nullptr;
    }
    if (!request.range.fits_in(size)) {
        return "it goes beyond the end";
    }
    const std::uint64_t most = request.verb == Verb::read    ? max_framed_read
                               : request.verb == Verb::write ? max_payload
                                                             : request.range.length;
    if (request.range.length > most) {
        return "more than 32 MiB in one request";
    }
    return request.range.empty() && request.verb != Verb::read ? "it is empty" : nullptr;
}

}  // namespace mirror::nbd
