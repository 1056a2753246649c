// SPDX-License-Identifier: BSD-3-Clause
// What a replica knows about itself across restarts. Written as one slot of the metadata file;
// the byte layout is in superblock.cpp. Values; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/base/clock.hpp"
#include "core/base/id.hpp"
#include "core/lineage/summary.hpp"

namespace mirror {

struct Superblock {
    std::uint64_t sequence = 0;  ///< set by MetaFile; the higher slot wins
    VolumeId volume;
    std::string volume_name;  ///< at most 63 bytes
    std::string node;         ///< at most 63 bytes
    std::string peer;         ///< at most 63 bytes
    std::uint64_t size = 0;   ///< bytes of the volume
    Role role = Role::standby;
    ReplicaState state = ReplicaState::fresh;
    bool unclean = false;      ///< see ReplicaSummary
    bool last_active = false;  ///< see ReplicaSummary
    /// The active took writes that the peer lacks (or may lack): its generation is its own.
    bool solo = false;
    /// `disconnect` was asked for: do not connect until `connect`.
    bool paused = false;
    SessionId session;  ///< the newest session this replica took part in
    WallTime created{};
    WallTime last_update{};
    WallTime break_at{};   ///< epoch: not broken
    WallTime synced_at{};  ///< last time both were known equal; epoch: never
    std::uint64_t media_errors = 0;
    GenerationId yields_to;           ///< see ReplicaSummary
    std::uint64_t lacking_bytes = 0;  ///< see ReplicaSummary
    Steps steps;                      ///< see steps.hpp
    /// What the backing is (core/store/identity.hpp); empty: not known.
    std::string backing_identity;
    /// The backing's change mark when it was closed; 0: it has none, or was not closed in good
    /// order, or is open.
    std::uint64_t backing_mark = 0;
    bool doubtful = false;  ///< see ReplicaSummary
    Lineage lineage;
};

inline constexpr std::size_t superblock_slot_size = 8192;

/// Fails only when a name or the lineage does not fit.
[[nodiscard]] Result<void> encode(const Superblock& block,
                                  std::span<std::byte, superblock_slot_size> slot);
/// Fails with `corrupt` on a bad magic, version, checksum or field.
[[nodiscard]] Result<Superblock> decode(std::span<const std::byte, superblock_slot_size> slot);

/// The replica's summary for a handshake; the map figures are the caller's.
[[nodiscard]] ReplicaSummary summarize(const Superblock& block, std::uint64_t intent_bytes,
                                       std::uint64_t changed_bytes);

}  // namespace mirror
