// SPDX-License-Identifier: BSD-3-Clause
// What a resolution needs to know before it touches anything: whether it may be done, and what it
// would cost. The judgement is pure, so that each refusal is a row of a test; the plan reads both
// replicas. Called from a request's thread.
#pragma once

#include <optional>
#include <string>

#include "core/lineage/summary.hpp"
#include "core/maps/bitmap.hpp"
#include "daemon/resolve.hpp"

namespace mirror::daemon {

/// Both replicas, as they are now.
struct Sides {
    ReplicaSummary loser;
    ReplicaSummary keeper;
    WallTime last_write{};  ///< to the loser's backing; epoch: unknown
};

struct ResolveCase {
    std::string volume;
    ReplicaSummary loser;
    ReplicaSummary keeper;
    std::uint64_t clients = 0;  ///< connections that the losing node serves
    bool disconnect_clients = false;
};
/// An error that says why not, and what would be accepted: there is nothing to decide.
[[nodiscard]] Result<void> judge_resolution(const ResolveCase& facts);
/// What stands in the way of a decision, and can be taken out of it: the price is known before.
[[nodiscard]] Result<void> require_no_clients(const ResolveCase& facts);

struct ResolvePlan {
    /// Differing blocks; nothing when they could not be read and --no-undo was given.
    std::optional<Bitmap> blocks;
    std::uint64_t lost_bytes = 0;
    std::uint64_t runs = 0;
    std::uint64_t undo_bytes = 0;  ///< space that the undo file takes at most
    std::uint64_t free_bytes = 0;
};
[[nodiscard]] Result<ResolvePlan> make_plan(VolumeKeeper& keeper, const ReplicaSummary& loser,
                                            const ReplicaSummary& kept, bool no_undo);
/// `no_space` where the undo would not fit.
[[nodiscard]] Result<void> require_space(const ResolvePlan& plan, const std::string& folder,
                                         const std::string& node);

}  // namespace mirror::daemon
