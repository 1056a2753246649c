// SPDX-License-Identifier: BSD-3-Clause
// The two things that resync and verify both do to a standby: compare by digest, and send data
// with its zeroes as zeroes. Called from the threads of either, who own the buffers.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/engine/session.hpp"
#include "core/maps/geometry.hpp"

namespace mirror {

/// The standby's digests of `range`, which begins at a digest block. `theirs` must live until the
/// link completes.
inline void read_digests(Session& session, ByteRange range, std::vector<Digest>& theirs,
                         nbd::Link::Completion done) {
    theirs.resize(divide_up(range.length, digest_block_size));
    session.digests().read(std::as_writable_bytes(std::span(theirs)),
                           range.offset / digest_block_size * sizeof(Digest), std::move(done));
}

/// The same, waiting for the answer.
[[nodiscard]] inline Result<void> read_digests(Session& session, ByteRange range,
                                               std::vector<Digest>& theirs) {
    theirs.resize(divide_up(range.length, digest_block_size));
    return session.digests().read(std::as_writable_bytes(std::span(theirs)),
                                  range.offset / digest_block_size * sizeof(Digest));
}

/// Calls `differs(ByteRange within ours)` for each digest block of `ours` that the standby has
/// otherwise.
template <typename Differs>
void for_each_differing(const Session& session, std::span<const std::byte> ours,
                        const std::vector<Digest>& theirs, Differs differs) {
    for (std::size_t i = 0; i < theirs.size(); ++i) {
        const std::uint64_t from = i * digest_block_size;
        const std::uint64_t length = std::min<std::uint64_t>(digest_block_size, ours.size() - from);
        if (session.digester()(ours.subspan(from, length)) != theirs[i]) {
            differs(ByteRange{from, length});
        }
    }
}

/// Sends `data` to `offset` on the bulk link. Pieces of a digest block each are zeroes or data as a
/// whole: finer ones would cost more requests than the zeroes save. `sent(bytes, as_zeroes)` is
/// called for each request that was answered.
template <typename Sent>
[[nodiscard]] Result<void> send_data(Session& session, std::span<const std::byte> data,
                                     std::uint64_t offset, bool fua, Sent sent) {
    std::uint64_t from = 0;
    while (from < data.size()) {
        const std::uint64_t piece = std::min<std::uint64_t>(digest_block_size, data.size() - from);
        const bool zero = is_zero(data.subspan(from, piece));
        std::uint64_t length = piece;
        while (from + length < data.size()) {
            const std::uint64_t next =
                std::min<std::uint64_t>(digest_block_size, data.size() - from - length);
            if (is_zero(data.subspan(from + length, next)) != zero) {
                break;
            }
            length += next;
        }
        auto answer = zero ? session.bulk().zero({offset + from, length}, Space::may_free, fua)
                           : session.bulk().write(data.subspan(from, length), offset + from, fua);
        if (!answer) {
            return answer;
        }
        sent(length, zero);
        from += length;
    }
    return {};
}

}  // namespace mirror
