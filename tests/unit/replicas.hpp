// SPDX-License-Identifier: BSD-3-Clause
// Replicas in few words, for tests of what they decide. Values; any thread.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "core/base/units.hpp"
#include "core/lineage/summary.hpp"

namespace mirror::test {

[[nodiscard]] inline GenerationId generation_id(std::uint8_t number) {
    GenerationId id;
    id.bytes[0] = number;
    return id;
}

/// Newest first, as the lineage itself.
[[nodiscard]] inline Lineage lineage_of(std::initializer_list<std::uint8_t> newest_first) {
    std::vector<Generation> entries;
    for (std::uint8_t number : newest_first) {
        entries.push_back(Generation{generation_id(number), {}, {}, "alpha", {}});
    }
    for (std::size_t i = 0; i + 1 < entries.size(); ++i) {
        entries[i].parent = entries[i + 1].id;
    }
    return Lineage(std::move(entries));
}

[[nodiscard]] inline ReplicaSummary replica(std::string node, Role role, ReplicaState state,
                                            Lineage lineage) {
    ReplicaSummary summary;
    summary.node = std::move(node);
    summary.volume.bytes[0] = 7;
    summary.size = 1 * GiB;
    summary.role = role;
    summary.state = state;
    summary.lineage = std::move(lineage);
    return summary;
}

}  // namespace mirror::test
