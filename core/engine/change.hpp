// SPDX-License-Identifier: BSD-3-Clause
// One piece of a change of the volume, and what it holds on its way. Values; whoever carries the
// change out has them.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "core/base/units.hpp"
#include "core/engine/membership.hpp"
#include "core/maps/intent_map.hpp"
#include "core/maps/range_lock.hpp"
#include "core/nbd/wire.hpp"
#include "core/store/store.hpp"

namespace mirror {

enum class Durability { cached, fua };

/// The longest change under one range lock: what an NBD peer takes in one request, and short
/// enough that a slow disk answers it well within any sensible peer_timeout.
inline constexpr std::uint64_t max_piece = nbd::max_payload;

/// At most max_piece bytes, under one range lock.
struct Change {
    ByteRange range;
    std::span<const std::byte> data{};  ///< empty: zeroes
    Space space = Space::may_free;
    Durability durability = Durability::cached;
};

/// From the range lock to the answer.
struct Underway {
    std::optional<RangeLock::Held> range;
    /// None once the local replica is left out.
    std::optional<IntentMap::Entered> intent;
    Membership::Parties parties;

    void let_go() {
        parties = {};
        intent.reset();
        range.reset();
    }
};

}  // namespace mirror
