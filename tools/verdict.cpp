// SPDX-License-Identifier: BSD-3-Clause
#include "tools/verdict.hpp"

#include <algorithm>
#include <array>

#include "core/base/json.hpp"
#include "tools/verify_view.hpp"

namespace mirror::tools {
namespace {

bool is_state(const Json& volume, std::string_view state) {
    return text_field(volume, "state") == state;
}

bool has_active_node(const Json& volume) {
    return text_field(volume, "role") == "active" || !active_node(volume, {}).empty();
}

constexpr std::array<std::string_view, 8> known_states{
    "in-sync", "resyncing", "broken", "starting", "new", "peer-unknown", "diverged", "failed"};

/// A device that should be there and is not: what uses the volume by it gets no further.
bool lacks_its_device(const Json& volume) {
    const std::string state = text_field(volume, "device_state");
    return text_field(volume, "role") == "active" && !text_field(volume, "device").empty() &&
           !state.empty() && state != "attached" && state != "dropped";
}

struct Rule {
    Condition condition;
    bool (*holds)(const Json& volume);
};

constexpr std::array<Rule, 15> rules{{
    {{"in-sync", status_in_sync, monitor_ok},
     [](const Json& volume) { return is_state(volume, "in-sync") && has_active_node(volume); }},
    {{"in-sync, active on no node", status_degraded, monitor_critical},
     [](const Json& volume) { return is_state(volume, "in-sync") && is_active_nowhere(volume); }},
    {{"in-sync, active node unknown", status_unknown, monitor_unknown},
     [](const Json& volume) {
         return is_state(volume, "in-sync") && !has_active_node(volume) &&
                !is_active_nowhere(volume);
     }},
    {{"resyncing", status_degraded, monitor_warning},
     [](const Json& volume) { return is_state(volume, "resyncing"); }},
    {{"broken", status_degraded, monitor_warning},
     [](const Json& volume) { return is_state(volume, "broken") && !is_active_nowhere(volume); }},
    {{"broken, active on no node", status_degraded, monitor_critical},
     [](const Json& volume) { return is_state(volume, "broken") && is_active_nowhere(volume); }},
    {{"starting", status_degraded, monitor_warning},
     [](const Json& volume) { return is_state(volume, "starting"); }},
    {{"new", status_degraded, monitor_warning},
     [](const Json& volume) { return is_state(volume, "new"); }},
    {{"peer-unknown", status_unknown, monitor_unknown},
     [](const Json& volume) { return is_state(volume, "peer-unknown"); }},
    {{"diverged", status_at_risk, monitor_critical},
     [](const Json& volume) { return is_state(volume, "diverged"); }},
    {{"failed", status_at_risk, monitor_critical},
     [](const Json& volume) { return is_state(volume, "failed"); }},
    // A state of a newer daemon, or none: never taken for good.
    {{"another state", status_unknown, monitor_unknown},
     [](const Json& volume) {
         const std::string state = text_field(volume, "state");
         return std::find(known_states.begin(), known_states.end(), state) == known_states.end();
     }},
    {{"writes are held", status_at_risk, monitor_critical},
     [](const Json& volume) {
         return bool_field(volume, "holds_writes").value_or(false) && !is_state(volume, "starting");
     }},
    {{"verify found differences", status_degraded, monitor_warning},
     [](const Json& volume) { return unrepaired_bytes(verify_of(volume)) != 0; }},
    {{"device not attached", status_degraded, monitor_warning}, lacks_its_device},
}};

constexpr auto conditions = [] {
    std::array<Condition, rules.size()> all{};
    std::transform(rules.begin(), rules.end(), all.begin(),
                   [](const Rule& rule) { return rule.condition; });
    return all;
}();

int worst(const Json& volume, int Condition::*code) {
    int found = 0;
    for (const Condition& condition : conditions_of(volume)) {
        found = worse_code(found, condition.*code);
    }
    return found;
}

}  // namespace

std::string_view monitor_word(int code) noexcept {
    constexpr std::array<std::string_view, 4> words{"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    return words.at(static_cast<std::size_t>(code));
}

std::span<const Condition> all_conditions() noexcept {
    return conditions;
}

std::vector<Condition> conditions_of(const Json& volume) {
    std::vector<Condition> found;
    for (const Rule& rule : rules) {
        if (rule.holds(volume)) {
            found.push_back(rule.condition);
        }
    }
    return found;
}

int worse_code(int one, int other) noexcept {
    // From best to worst; what is at risk outweighs what could not be found out.
    constexpr std::array<int, 4> order{status_in_sync, status_degraded, status_unknown,
                                       status_at_risk};
    return *std::max(std::find(order.begin(), order.end(), one),
                     std::find(order.begin(), order.end(), other));
}

int status_code_of(const Json& volume) {
    return worst(volume, &Condition::status);
}

int monitor_code_of(const Json& volume) {
    return worst(volume, &Condition::monitor);
}

std::string active_node(const Json& volume, const std::string& node) {
    if (text_field(volume, "role") == "active") {
        return node;
    }
    for (const Json& peer : part_field(volume, "peers")) {
        if (text_field(peer, "role") == "active") {
            return text_field(peer, "node");
        }
    }
    return {};
}

bool is_activity_known(const Json& volume) {
    const Json& peers = part_field(volume, "peers");
    return std::all_of(peers.begin(), peers.end(), [](const Json& peer) {
        return text_field(peer, "role") == "standby" || text_field(peer, "role") == "active";
    });
}

bool is_active_nowhere(const Json& volume) {
    return active_node(volume, {}).empty() && text_field(volume, "role") != "active" &&
           is_activity_known(volume);
}

}  // namespace mirror::tools
