// SPDX-License-Identifier: BSD-3-Clause
// Which of two replicas has gone further: by their generations, and within a generation by their
// steps, so that one that was put back to an older state is behind. Pure; any thread.
#pragma once

#include <string>

#include "core/lineage/summary.hpp"

namespace mirror {

/// As relate() of the lineages, where these are not enough: `behind` too when ours was put back
/// within a generation, `diverged` when the other one went on from a generation before the point
/// that the first one has reached in it.
[[nodiscard]] Relation relate(const ReplicaSummary& ours, const ReplicaSummary& theirs) noexcept;

/// Whether `replica` does not know of steps that it took together with `other`.
[[nodiscard]] bool was_put_back(const ReplicaSummary& replica,
                                const ReplicaSummary& other) noexcept;
/// That, as the beginning of a sentence for people: who, and what the numbers are.
[[nodiscard]] std::string describe_put_back(const ReplicaSummary& replica,
                                            const ReplicaSummary& other);

/// Whether the maps of each begin no later than the point that the other one has reached in the
/// newest generation that they share.
[[nodiscard]] bool maps_reach_back(const ReplicaSummary& active,
                                   const ReplicaSummary& standby) noexcept;

}  // namespace mirror
