// SPDX-License-Identifier: BSD-3-Clause
#include "core/lineage/summary.hpp"

#include "core/lineage/words.hpp"

namespace mirror {
namespace {

constexpr detail::Words<Role, 2> role_words{{
    {Role::standby, "standby"},
    {Role::active, "active"},
}};

constexpr detail::Words<ReplicaState, 5> state_words{{
    {ReplicaState::fresh, "new"},
    {ReplicaState::up_to_date, "up-to-date"},
    {ReplicaState::stale, "stale"},
    {ReplicaState::inconsistent, "inconsistent"},
    {ReplicaState::failed, "failed"},
}};

}  // namespace

std::string_view to_string(Role role) noexcept {
    return detail::word_of(role_words, role);
}

Result<Role> parse_role(std::string_view word) {
    return detail::parse_word(role_words, word, "role");
}

std::string_view to_string(ReplicaState state) noexcept {
    return detail::word_of(state_words, state);
}

Result<ReplicaState> parse_replica_state(std::string_view word) {
    return detail::parse_word(state_words, word, "replica state");
}

}  // namespace mirror
