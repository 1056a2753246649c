// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/framed_export.hpp"

#include <algorithm>
#include <utility>

namespace mirror::nbd {
namespace {

/// One flipped bit must not make a success (0) of an answer's error: EPERM is 1.
Result<void> with_robust_kind(Result<void> result) {
    if (!result && result.error().kind == ErrorKind::refused) {
        result.error().kind = ErrorKind::io;
    }
    return result;
}

}  // namespace

FramedExport::FramedExport(std::unique_ptr<Export> inner, Report garbled)
    : inner_(std::move(inner)), garbled_(std::move(garbled)), inner_traits_(inner_->traits()) {}

Traits FramedExport::traits() const {
    return {.size = framed_base + inner_traits_.size,
            .read_only = inner_traits_.read_only,
            .preferred_block = inner_traits_.preferred_block,
            .description = "framed: " + inner_traits_.description};
}

Result<void> FramedExport::read(std::span<std::byte> into, std::uint64_t offset) {
    if (over_) {
        return refuse(ErrorKind::corrupt, "the connection has ended");
    }
    if (into.size() < trailer_size ||
        !ByteRange{offset, into.size() - trailer_size}.fits_in(inner_traits_.size)) {
        return refuse(ErrorKind::corrupt, "an unexpected read");
    }
    const std::span<std::byte> data = into.first(into.size() - trailer_size);
    // An empty read is a sign of life, which the inner export wants to see, too.
    if (Result<void> done = inner_->read(data, offset); !done) {
        return with_robust_kind(std::move(done));
    }
    store_trailer(into, offset);
    return {};
}

Result<void> FramedExport::write(std::span<const std::byte> from, std::uint64_t offset) {
    wants_flush_ = false;
    if (over_) {
        return refuse(ErrorKind::corrupt, "the connection has ended");
    }
    if (waiting_) {
        const RawHeader header = *waiting_;
        waiting_.reset();
        return offset == apart_offset
                   ? take(header, from)
                   : refuse(ErrorKind::corrupt, "a frame arrived in place of another one's data");
    }
    if (offset != frame_offset || from.size() < FrameHeader::wire_size) {
        return refuse(ErrorKind::corrupt, "a write that is not a frame");
    }
    const auto header = from.first<FrameHeader::wire_size>();
    const std::span<const std::byte> data = from.subspan(FrameHeader::wire_size);
    if (data.empty() && seems_apart(header)) {
        std::copy(header.begin(), header.end(), waiting_.emplace().begin());
        return {};
    }
    return take(header, data);
}

Result<void> FramedExport::take(std::span<const std::byte, FrameHeader::wire_size> header,
                                std::span<const std::byte> data) {
    const Result<FrameHeader> frame = load_frame(header, data);
    if (!frame) {
        return refuse(frame.error().kind, frame.error().message);
    }
    if (frame->sequence != next_sequence_) {
        return refuse(ErrorKind::protocol, fmt::format("it has number {} where {} comes next",
                                                       frame->sequence, next_sequence_));
    }
    if (!frame->range.fits_in(inner_traits_.size)) {
        return refuse(ErrorKind::protocol, "it goes beyond the end of the volume");
    }
    ++next_sequence_;
    return with_robust_kind(apply(*frame, data));
}

Result<void> FramedExport::apply(const FrameHeader& header, std::span<const std::byte> data) {
    wants_flush_ = header.op == FrameOp::flush || header.has(frame_flag::fua);
    switch (header.op) {
        case FrameOp::write:
            return inner_->write(data, header.range.offset);
        case FrameOp::zero:
            return inner_->zero(header.range, header.has(frame_flag::keep_allocated)
                                                  ? Space::keep_allocated
                                                  : Space::may_free);
        case FrameOp::flush:
            break;  // by the server, once for the batch
    }
    return {};
}

Result<void> FramedExport::flush() {
    return with_robust_kind(inner_->flush());
}

/// The kind reaches the other side as one error number, whatever it was: see Transmission.
Failure FramedExport::refuse(ErrorKind kind, const std::string& why) {
    Error error{kind, fmt::format("a frame was not applied: {}", why)};
    if (!std::exchange(over_, true) && garbled_) {
        garbled_(error);
    }
    error.kind = ErrorKind::corrupt;
    return Failure(std::move(error));
}

Result<void> FramedExport::zero(ByteRange /*range*/, Space /*space*/) {
    return refuse(ErrorKind::corrupt, "a command without a frame");
}

Result<void> FramedExport::trim(ByteRange range) {
    return zero(range, Space::may_free);
}

Result<std::vector<Extent>> FramedExport::extents(ByteRange range) {
    return std::vector<Extent>{{range, false}};
}

}  // namespace mirror::nbd
