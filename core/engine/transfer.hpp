// SPDX-License-Identifier: BSD-3-Clause
// The two things that resync and verify both do to a standby: compare by digest, and send data
// with its zeroes as zeroes. Called from the threads of either, who own the buffers.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "core/engine/peer_leg.hpp"
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

/// One command's part of what is sent.
struct Part {
    std::uint64_t length = 0;
    bool zero = false;
};

/// As much of `data`, from its first byte on, as goes into one command. Pieces of a digest block
/// each are zeroes or data as a whole: finer ones would cost more requests than the zeroes save.
[[nodiscard]] inline Part first_part(std::span<const std::byte> data) {
    // What the standby's processor still has in its cache when it writes it costs half.
    constexpr std::uint64_t most_data = 256 * KiB;
    const auto piece_at = [&](std::uint64_t from) {
        return data.subspan(from, std::min<std::uint64_t>(digest_block_size, data.size() - from));
    };
    Part part{piece_at(0).size(), is_zero(piece_at(0))};
    while (part.length < data.size() && (part.zero || part.length < most_data) &&
           is_zero(piece_at(part.length)) == part.zero) {
        part.length += piece_at(part.length).size();
    }
    return part;
}

/// Sends at most a region to `offset`, with all its commands under way together.
template <typename Sent>
[[nodiscard]] Result<void> send_together(Session& session, std::span<const std::byte> data,
                                         std::uint64_t offset, bool fua, const Sent& sent) {
    std::array<Part, region_size / digest_block_size> parts;
    std::array<PeerLeg, parts.size()> legs;
    std::size_t count = 0;
    for (std::uint64_t from = 0; from < data.size(); from += parts[count++].length) {
        const Part part = parts[count] = first_part(data.subspan(from));
        if (part.zero) {
            session.bulk().zero({offset + from, part.length}, Space::may_free, fua,
                                legs[count].completion());
        } else {
            session.bulk().write(data.subspan(from, part.length), offset + from, fua,
                                 legs[count].completion());
        }
    }
    Result<void> all;
    for (std::size_t i = 0; i < count; ++i) {
        const Result<void> answer = legs[i].wait();
        if (answer) {
            sent(parts[i].length, parts[i].zero);
        } else if (all) {
            all = answer;
        }
    }
    return all;
}

/// Sends `data` to `offset` on the bulk link, with its zeroes as zeroes. `sent(bytes, as_zeroes)`
/// is called for each command that was answered.
template <typename Sent>
[[nodiscard]] Result<void> send_data(Session& session, std::span<const std::byte> data,
                                     std::uint64_t offset, bool fua, const Sent& sent) {
    for (std::uint64_t from = 0; from < data.size(); from += region_size) {
        const auto piece =
            data.subspan(from, std::min<std::uint64_t>(region_size, data.size() - from));
        if (auto done = send_together(session, piece, offset + from, fua, sent); !done) {
            return done;
        }
    }
    return {};
}

}  // namespace mirror
