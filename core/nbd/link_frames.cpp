// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/link_frames.hpp"

#include <libnbd.h>

namespace mirror::nbd {
namespace {

FrameHeader header_of(const LinkRequest& request, std::uint64_t sequence) noexcept {
    FrameHeader header{.sequence = sequence, .range = request.range};
    header.op = request.verb == Verb::write  ? FrameOp::write
                : request.verb == Verb::zero ? FrameOp::zero
                                             : FrameOp::flush;
    if ((request.flags & LIBNBD_CMD_FLAG_FUA) != 0) {
        header.flags |= frame_flag::fua;
    }
    if ((request.flags & LIBNBD_CMD_FLAG_NO_HOLE) != 0) {
        header.flags |= frame_flag::keep_allocated;
    }
    if (FrameWriter::goes_apart(request)) {
        header.flags |= frame_flag::data_apart;
    }
    return header;
}

}  // namespace

const char* FrameWriter::objection(const LinkRequest& request) const noexcept {
    if (request.verb == Verb::flush) {
        return nullptr;
    }
    if (!request.range.fits_in(volume_size_)) {
        return "it goes beyond the end";
    }
    if (request.verb == Verb::read) {
        return request.range.length > max_framed_read ? "more than 32 MiB in one request" : nullptr;
    }
    if (request.verb == Verb::write && request.range.length > max_payload) {
        return "more than 32 MiB in one request";
    }
    return request.range.empty() ? "it is empty" : nullptr;
}

void FrameWriter::store(WireBuffer& buffer, const LinkRequest& request) {
    const FrameHeader header = header_of(request, ++sequence_);
    const std::span<const std::byte> data(request.from,
                                          request.verb == Verb::write ? request.range.length : 0);
    if (header.has(frame_flag::data_apart)) {
        store_frame(buffer.take(FrameHeader::wire_size).first<FrameHeader::wire_size>(), header,
                    data);
    } else {
        store_whole_frame(buffer.take(FrameHeader::wire_size + data.size()), header, data);
    }
}

}  // namespace mirror::nbd
