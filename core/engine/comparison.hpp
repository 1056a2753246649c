// SPDX-License-Identifier: BSD-3-Clause
// Compares pieces of both replicas while the application writes (docs/design.md, section 5.1).
// Each piece is looked at by digest without any lock first: equal then is equal, and no write has
// waited. What looks different (a write on its way, mostly) is looked at again block by block under
// its range lock, when both replicas have the same answered writes: 64 KiB at a time, so that a
// write waits for a few requests at most. Only what differs there, byte by byte, is a finding.
//
// For one thread and one session; owns its buffers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/engine/differences.hpp"
#include "core/engine/membership.hpp"
#include "core/engine/session.hpp"
#include "core/engine/verify_record.hpp"
#include "core/maps/range_lock.hpp"
#include "core/store/store.hpp"

namespace mirror {

class Comparison {
  public:
    struct Parts {
        Store& store;
        Differences& differences;
        RangeLock& ranges;
        Membership& membership;
        /// Reads as a client does: from the peer where the own disk can't, which heals that.
        std::function<Result<void>(std::span<std::byte>, std::uint64_t)> read;
        std::chrono::milliseconds peer_timeout;  ///< the peer must answer within it
    };

    Comparison(const Parts& parts, std::shared_ptr<Session> session);

    /// What to look at in one go.
    struct Piece {
        ByteRange range;
        bool hole = false;  ///< nothing to read here
    };
    [[nodiscard]] Piece piece_at(std::uint64_t offset);
    /// What differs in it, by blocks of 4 KiB; with `repair` ours is sent, and what is then durable
    /// and equal there counts as repaired. Fails when nothing can be said: the session is over.
    [[nodiscard]] Result<std::vector<VerifyFinding>> compare(const Piece& piece, bool repair);

    /// The mirror is as it was when this comparison began: every answered write is on both.
    [[nodiscard]] bool in_sync() const;

  private:
    [[nodiscard]] Result<std::vector<ByteRange>> look(const Piece& piece);
    [[nodiscard]] Result<void> look_closely(ByteRange block, bool repair,
                                            std::vector<VerifyFinding>& findings);
    [[nodiscard]] bool is_equal_by_digest(ByteRange block);
    [[nodiscard]] std::vector<ByteRange> differing_blocks(ByteRange block) const;
    void mend(VerifyFinding& finding, ByteRange block);
    [[nodiscard]] Failure over() const;

    const Parts parts_;
    const std::shared_ptr<Session> session_;
    const Digest zero_digest_;
    const std::uint64_t data_piece_;
    std::vector<std::byte> data_;
    std::vector<std::byte> ours_;    ///< one digest block
    std::vector<std::byte> theirs_;  ///< the same on the peer
    std::vector<Digest> digests_{};
};

}  // namespace mirror
