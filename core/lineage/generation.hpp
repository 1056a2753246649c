// SPDX-License-Identifier: BSD-3-Clause
// The identity of a replica's data: which generations it has gone through. A new generation begins
// when the active goes on without a peer (at its first write) or when a promotion happens without
// the former active. Pure values; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"
#include "core/base/id.hpp"

namespace mirror {

enum class GenerationReason {
    created,            ///< the volume was made
    peer_lost,          ///< the active went on without its peer
    forced_promotion,   ///< promoted by --force
    fenced_promotion,   ///< promoted by --fenced
    local_disk_failed,  ///< the active's own replica was left out
    resolved,           ///< a split brain was decided
};
[[nodiscard]] std::string_view to_string(GenerationReason reason) noexcept;
[[nodiscard]] Result<GenerationReason> parse_generation_reason(std::string_view word);

struct Generation {
    GenerationId id;
    GenerationId parent;  ///< none for the first
    WallTime began{};
    std::string node;  ///< who began it
    GenerationReason reason = GenerationReason::created;
    /// The step at which it went on from its parent (steps.hpp); 0: unknown, or it has no parent.
    std::uint64_t from_step = 0;

    friend bool operator==(const Generation&, const Generation&) = default;
};

/// The last generations of a replica, newest first. At most `capacity` are kept.
class Lineage {
  public:
    static constexpr std::size_t capacity = 32;

    Lineage() = default;
    explicit Lineage(std::vector<Generation> newest_first);

    [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
    /// The newest; none when empty.
    [[nodiscard]] GenerationId current() const noexcept;
    [[nodiscard]] const std::vector<Generation>& entries() const noexcept { return entries_; }
    [[nodiscard]] bool contains(const GenerationId& id) const noexcept;
    /// Puts a generation on top whose parent is the current one; drops the oldest beyond capacity.
    void begin(GenerationId id, WallTime now, std::string node, GenerationReason reason,
               std::uint64_t from_step = 0);

    /// Of the newest generations that went on one from the other at the same step, which no other
    /// replica ever had part in, drops the older ones but for the first until `most` are left.
    void shorten_run(std::size_t most);

    friend bool operator==(const Lineage&, const Lineage&) = default;

  private:
    std::vector<Generation> entries_;
};

enum class Relation {
    equal,      ///< same current generation
    ahead,      ///< ours descends from the peer's current generation
    behind,     ///< the peer's descends from ours
    diverged,   ///< a common ancestor, and both went on from it
    unrelated,  ///< nothing in common
};
[[nodiscard]] std::string_view to_string(Relation relation) noexcept;
[[nodiscard]] Relation relate(const Lineage& ours, const Lineage& theirs) noexcept;

}  // namespace mirror
