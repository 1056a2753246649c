// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/comparison.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/engine/peer_leg.hpp"
#include "core/engine/transfer.hpp"

namespace mirror {
namespace {

constexpr std::uint64_t largest_piece = 1 * MiB;
/// A hole here costs nothing; but it may be data on the peer, who has to read it.
constexpr std::uint64_t hole_factor = 8;

/// A comparison must not break the mirror: the peer reads a piece well within its time, also from a
/// disk that others keep busy.
std::uint64_t piece_for(std::chrono::milliseconds peer_timeout) {
    const auto milliseconds = static_cast<std::uint64_t>(peer_timeout.count());
    const std::uint64_t bytes = milliseconds * KiB / digest_block_size * digest_block_size;
    return std::clamp(bytes, digest_block_size, largest_piece);
}

}  // namespace

Comparison::Comparison(const Parts& parts, std::shared_ptr<Session> session)
    : parts_(parts),
      session_(std::move(session)),
      zero_digest_(session_->digester()(std::vector<std::byte>(digest_block_size))),
      data_piece_(piece_for(parts.peer_timeout)),
      data_(data_piece_),
      ours_(digest_block_size),
      theirs_(digest_block_size) {}

bool Comparison::in_sync() const {
    const Membership::Parties parties = parts_.membership.parties();
    return parties.session == session_ && parties.mode == MirrorMode::in_sync && parties.local &&
           !session_->is_lost();
}

Failure Comparison::over() const {
    return fail(ErrorKind::unreachable, "the mirror is no longer in sync");
}

Comparison::Piece Comparison::piece_at(std::uint64_t offset) {
    const std::uint64_t left = parts_.store.size() - offset;
    const std::uint64_t hole =
        parts_.store.hole_length({offset, std::min(left, hole_factor * data_piece_)});
    // Whole digest blocks, since only these have a digest that is known.
    if (const std::uint64_t length = hole / digest_block_size * digest_block_size; length != 0) {
        return {{offset, length}, true};
    }
    return {{offset, std::min(left, data_piece_)}, false};
}

Result<std::vector<VerifyFinding>> Comparison::compare(const Piece& piece, bool repair) {
    const auto suspects = look(piece);
    if (!suspects) {
        return Failure(suspects.error());
    }
    std::vector<VerifyFinding> findings;
    for (const ByteRange& block : *suspects) {
        if (auto looked = look_closely(block, repair, findings); !looked) {
            return Failure(looked.error());
        }
    }
    return findings;
}

Result<std::vector<ByteRange>> Comparison::look(const Piece& piece) {
    const std::uint64_t base = piece.range.offset;
    PeerLeg leg;
    read_digests(*session_, piece.range, digests_, leg.completion());
    const std::span<std::byte> data(data_.data(), piece.hole ? 0 : piece.range.length);
    const Result<void> local = piece.hole ? Result<void>{} : parts_.read(data, base);
    const Result<void> peer = leg.wait();
    // No range is held: a write under way makes a suspect, which is looked at closely. The session
    // may have ended, or the replica here been left out; then nothing of this counts.
    if (!in_sync()) {
        return over();
    }
    std::vector<ByteRange> suspects;
    const auto suspect = [&](std::uint64_t from) {
        suspects.push_back({base + from, std::min(digest_block_size, piece.range.length - from)});
    };
    if (local && peer && !piece.hole) {
        for_each_differing(*session_, data, digests_,
                           [&](ByteRange differing) { suspect(differing.offset); });
        return suspects;
    }
    for (std::size_t i = 0; i < digests_.size(); ++i) {
        if (!local || !peer || digests_[i] != zero_digest_) {
            suspect(i * digest_block_size);
        }
    }
    return suspects;
}

bool Comparison::is_equal_by_digest(ByteRange block) {
    bool equal = true;
    if (!read_digests(*session_, block, digests_)) {
        return false;
    }
    for_each_differing(*session_, std::span(ours_).first(block.length), digests_,
                       [&](ByteRange) { equal = false; });
    return equal;
}

std::vector<ByteRange> Comparison::differing_blocks(ByteRange block) const {
    std::vector<ByteRange> runs;
    for (std::uint64_t at = 0; at < block.length; at += block_size) {
        const std::uint64_t length = std::min(block_size, block.length - at);
        if (std::memcmp(&ours_[at], &theirs_[at], length) == 0) {
            continue;
        }
        if (!runs.empty() && runs.back().end() == block.offset + at) {
            runs.back().length += length;
        } else {
            runs.push_back({block.offset + at, length});
        }
    }
    return runs;
}

Result<void> Comparison::look_closely(ByteRange block, bool repair,
                                      std::vector<VerifyFinding>& findings) {
    const auto held = parts_.ranges.acquire(block);
    const std::span<std::byte> ours = std::span(ours_).first(block.length);
    const std::span<std::byte> theirs = std::span(theirs_).first(block.length);
    Result<void> local = parts_.store.read(ours, block.offset);
    if (local && is_equal_by_digest(block)) {
        return {};
    }
    // Read once more before it is believed, and byte by byte, so that exactly what differs is told.
    local = parts_.store.read(ours, block.offset);
    const Result<void> peer = session_->bulk().read(theirs, block.offset);
    // Was it in sync after both were read, both read what was acknowledged: the range is held, so
    // that `ours` stays it, also where the session ends or this replica is left out from here on.
    if (!in_sync()) {
        return over();
    }
    if (!local) {
        findings.push_back({block, true, false, local.error().message});
        return {};
    }
    const std::vector<ByteRange> runs = peer ? differing_blocks(block) : std::vector{block};
    for (const ByteRange& run : runs) {
        VerifyFinding finding{run, !peer, false, peer ? "" : peer.error().message};
        if (repair) {
            mend(finding, block);
        }
        if (!in_sync()) {
            return over();
        }
        findings.push_back(std::move(finding));
    }
    return {};
}

void Comparison::mend(VerifyFinding& finding, ByteRange block) {
    const ByteRange run = finding.range;
    // Until it is durable on the peer, the intent stands for it: a crash has it compared again.
    const auto entered = parts_.differences.enter(run);
    if (!entered) {
        finding.cause = entered.error().message;
        return;
    }
    const std::span<const std::byte> ours(&ours_[run.offset - block.offset], run.length);
    // A session that ends takes nothing any more; the intent stays.
    auto sent = send_data(*session_, ours, run.offset, true, [](std::uint64_t, bool) {});
    // What a bad disk took it may still not give back.
    const std::span<std::byte> theirs(&theirs_[run.offset - block.offset], run.length);
    if (sent) {
        sent = session_->bulk().read(theirs, run.offset);
    }
    if (!sent) {
        finding.cause = sent.error().message;
    } else if (!std::equal(ours.begin(), ours.end(), theirs.begin())) {
        finding.cause = fmt::format("{} accepted the blocks, but reads back different data",
                                    session_->peer_node());
    } else {
        finding.repaired = true;
    }
}

}  // namespace mirror
