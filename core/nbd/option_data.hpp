// SPDX-License-Identifier: BSD-3-Clause
// What the longer options of a handshake carry. Pure functions over a stranger's bytes: nothing
// where they are too short, too long or contradict themselves.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/nbd/wire.hpp"

namespace mirror::nbd {

inline constexpr std::string_view allocation_context = "base:allocation";

/// Of INFO and GO.
struct GoRequest {
    std::string name;
    std::vector<Info> infos;
};
[[nodiscard]] std::optional<GoRequest> parse_go(std::span<const std::byte> data);

/// Of LIST_META_CONTEXT and SET_META_CONTEXT.
struct ContextQuery {
    std::string name;
    std::vector<std::string> queries;
};
[[nodiscard]] std::optional<ContextQuery> parse_context_query(std::span<const std::byte> data);

/// A list is also answered for no query at all and for the namespace alone.
[[nodiscard]] bool asks_for_allocation(const std::vector<std::string>& queries, bool is_list);

}  // namespace mirror::nbd
