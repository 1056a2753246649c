// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/link_frames.hpp"

#include <libnbd.h>

namespace mirror::nbd {

FrameHeader header_of(const LinkRequest& request) noexcept {
    FrameHeader header{.range = request.range};
    header.op = request.verb == Verb::write  ? FrameOp::write
                : request.verb == Verb::zero ? FrameOp::zero
                                             : FrameOp::flush;
    if ((request.flags & LIBNBD_CMD_FLAG_FUA) != 0) {
        header.flags |= frame_flag::fua;
    }
    if ((request.flags & LIBNBD_CMD_FLAG_NO_HOLE) != 0) {
        header.flags |= frame_flag::keep_allocated;
    }
    if (goes_apart(request)) {
        header.flags |= frame_flag::data_apart;
    }
    return header;
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
