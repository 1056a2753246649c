// SPDX-License-Identifier: BSD-3-Clause
// One volume's status as the contract has it (schema 1): put together from what this node holds,
// what its engine says and what the peer said last. A figure that is not known is null, never 0.
// Pure; any thread.
#pragma once

#include <optional>
#include <string>

#include "core/base/json.hpp"
#include "core/meta/superblock.hpp"
#include "core/standby/replica.hpp"
#include "daemon/context.hpp"
#include "daemon/peer_answer.hpp"

namespace mirror::daemon {

/// Where a volume stands on this node.
enum class Place {
    absent,    ///< no metadata: never created here
    standby,   ///< mirrord owns the replica
    active,    ///< an engine owns it, or should
    changing,  ///< between two of the others
    failed,    ///< the replica can't be opened
};

struct VolumeFacts {
    const VolumeConfig* config = nullptr;  ///< never null
    std::string node;
    Place place = Place::absent;
    std::string failure;          ///< why the replica or the engine does not work
    std::string advice{};         ///< what to do about that; empty: not known
    std::string device_state{};   ///< "attached"; empty: the volume has no device
    std::string operation;        ///< in progress: "promote"; empty: none
    bool is_starting = false;     ///< active, and its engine is being started again
    bool waits_for_peer = false;  ///< standby, and goes on as active when the peer agrees
    std::optional<Superblock> block;
    std::optional<ReplicaSummary> summary;
    std::string fault{};  ///< "backing" or "metadata": what `failure` is about
    Json metadata;        ///< of a standby's replica: core/control/metadata_json.hpp
    std::optional<Replica::SessionView> session;  ///< standby: with an active elsewhere
    Json media;                                   ///< of a standby's replica; null: not known here
    Json engine;  ///< its answer to `status`; null: it runs not, or does not answer
    PeerView peer;
    WallTime now{};
    SteadyTime steady_now{};
    WallTime last_write{};  ///< to the backing file here; epoch: unknown
    Json rto;               ///< of the last promotion here; null: none
    Json verify;            ///< of the comparison, as kept on this node; null: none
};

struct StateWord {
    std::string word;  ///< "in-sync", "broken", …
    std::string why;   ///< a sentence
    /// What to do, where it is known better than by the word alone; empty: it is not.
    std::string advice{};
};

/// With tls = "off": a warning in `status` and `check`.
inline constexpr std::string_view not_encrypted =
    "the nodes communicate unencrypted, and anyone who can reach their ports can read and "
    "overwrite the volumes: tls = \"off\"";

[[nodiscard]] StateWord judge_state(const VolumeFacts& facts);
/// An entry of the contract's `volumes`; `since` is when the state word became what it is.
[[nodiscard]] Json volume_status(const VolumeFacts& facts, const StateWord& state, WallTime since);

/// What the last comparison found and nobody repaired; 0 also when it is not known.
[[nodiscard]] std::uint64_t unrepaired_bytes(const VolumeFacts& facts);

/// How many bytes the standby of this (active) volume lacks; nothing when it is not known.
[[nodiscard]] std::optional<std::uint64_t> behind_bytes(const VolumeFacts& facts);

}  // namespace mirror::daemon
