// SPDX-License-Identifier: BSD-3-Clause
#include "tools/key_plan.hpp"

#include <algorithm>
#include <map>
#include <optional>

namespace mirror::tools {
namespace {

using tls::Direction;
using tls::PskKey;
using tls::PskKeys;
using Slot = std::optional<Direction>;  // none: the cluster's

Slot slot_of(const PskKey& key) {
    return tls::direction_of(key.name);
}

std::string names_of(const PskKeys& keys) {
    std::vector<std::string> names;
    std::transform(keys.begin(), keys.end(), std::back_inserter(names),
                   [](const PskKey& key) { return key.name; });
    return fmt::format("{}", fmt::join(names, ", "));
}

PskKeys keys_with(const PskKeys& keys, const std::string& node) {
    PskKeys with;
    std::copy_if(keys.begin(), keys.end(), std::back_inserter(with), [&](const PskKey& key) {
        const Slot slot = slot_of(key);
        return !slot || slot->has(node);
    });
    return with;
}

bool has_pairs(const PskKeys& keys) {
    return std::any_of(keys.begin(), keys.end(), slot_of);
}

/// Whether a key of that slot is one that the step is about.
bool is_meant(const Slot& slot, const KeyOwners& owners) {
    return owners.with.empty() || (slot && slot->has(owners.with));
}

std::vector<std::string> partners(const KeyOwners& owners) {
    return owners.with.empty() ? owners.others : std::vector{owners.with};
}

/// Both directions.
Result<PskKeys> keys_between(const std::string& one, const std::string& other) {
    PskKeys keys;
    for (const Direction& direction : {Direction{one, other}, Direction{other, one}}) {
        auto key = tls::new_psk_key(direction);
        if (!key) {
            return Failure(key.error());
        }
        keys.push_back(std::move(*key));
    }
    return keys;
}

Result<PskKeys> keys_of_all(const KeyOwners& owners) {
    PskKeys keys;
    std::vector<std::string> nodes = owners.others;
    nodes.push_back(owners.node);
    for (std::size_t one = 0; one < nodes.size(); ++one) {
        for (std::size_t other = one + 1; other < nodes.size(); ++other) {
            auto made = keys_between(nodes[one], nodes[other]);
            if (!made) {
                return made;
            }
            std::move(made->begin(), made->end(), std::back_inserter(keys));
        }
    }
    return keys;
}

/// Each node gets the keys that are its own, and no other.
KeyPlan hand_out(const PskKeys& all, const KeyOwners& owners) {
    KeyPlan plan{keys_with(all, owners.node), {}, "mirrorctl check"};
    for (const std::string& node : owners.others) {
        PskKeys theirs = keys_with(all, node);
        const bool is_same = theirs.size() == all.size() && plan.keys.size() == all.size();
        plan.others.push_back(is_same ? Handout{node}
                                      : Handout{node, Way::whole_file, std::move(theirs)});
    }
    return plan;
}

/// The others have files of their own, or a copy of this one.
void tell_others(KeyPlan& plan, const KeyOwners& owners) {
    const bool have_copies = owners.others.size() == 1 || !has_pairs(plan.keys);
    for (const std::string& node : owners.others) {
        plan.others.push_back({node, have_copies ? Way::copy : Way::itself});
    }
}

Failure no_second(const PskKeys& keys) {
    return Failure(Error{ErrorKind::refused,
                         keys.size() == 1
                             ? fmt::format("there is one key, {}", keys.front().name)
                             : fmt::format("none of the keys {} has a successor", names_of(keys)),
                         "a rotation begins with mirrorctl keygen --add"});
}

std::map<Slot, std::vector<std::size_t>> by_slot(const PskKeys& keys) {
    std::map<Slot, std::vector<std::size_t>> places;
    for (std::size_t at = 0; at < keys.size(); ++at) {
        places[slot_of(keys[at])].push_back(at);
    }
    return places;
}

/// A cluster's key with keys of two nodes in the same file: one kind is the other's successor.
bool is_changing_kind(const PskKeys& keys) {
    return has_pairs(keys) && !std::all_of(keys.begin(), keys.end(), slot_of);
}

Result<KeyPlan> add_to_cluster(PskKeys keys, const KeyOwners& owners) {
    auto key = tls::new_psk_key();
    if (!key) {
        return Failure(key.error());
    }
    std::string done = fmt::format("added the key {}: it is accepted, and {} is still used",
                                   key->name, keys.front().name);
    keys.push_back(std::move(*key));
    KeyPlan plan{std::move(keys), std::move(done), {}};
    tell_others(plan, owners);
    return plan;
}

Result<KeyPlan> add_to_pairs(PskKeys keys, const KeyOwners& owners) {
    PskKeys made;
    std::vector<Handout> others;
    const auto places = by_slot(keys);
    for (const std::string& node : partners(owners)) {
        const auto there = places.find(Direction{owners.node, node});
        if (there != places.end() && there->second.size() >= tls::most_psk_keys) {
            continue;  // its rotation has begun, on that node it may be
        }
        auto both = keys_between(owners.node, node);
        if (!both) {
            return Failure(both.error());
        }
        made.insert(made.end(), both->begin(), both->end());
        others.push_back(
            {node, owners.others.size() == 1 ? Way::copy : Way::take, std::move(*both)});
    }
    if (made.empty()) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("a rotation of {} is not finished", names_of(keys)),
                             "continue with mirrorctl keygen --next, then --retire"});
    }
    std::string done =
        fmt::format("added {}: the new keys are accepted, and the previous ones are still used",
                    names_of(made));
    keys.insert(keys.end(), made.begin(), made.end());
    return KeyPlan{std::move(keys), std::move(done), {}, std::move(others)};
}

}  // namespace

Result<KeyPlan> plan_first(const KeyOwners& owners) {
    if (owners.others.empty()) {
        return tls::new_psk_key().map([](tls::PskKey&& key) {
            std::string done = fmt::format("made {}", key.name);
            return KeyPlan{{std::move(key)}, std::move(done), "mirrorctl check"};
        });
    }
    auto all = keys_of_all(owners);
    if (!all) {
        return Failure(all.error());
    }
    KeyPlan plan = hand_out(*all, owners);
    plan.done = fmt::format("made {}", names_of(plan.keys));
    return plan;
}

Result<KeyPlan> plan_add(PskKeys keys, const KeyOwners& owners, bool pairs) {
    const bool had_pairs = has_pairs(keys);
    if (is_changing_kind(keys) || (!had_pairs && keys.size() >= tls::most_psk_keys)) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("a rotation of {} is not finished", names_of(keys)),
                             "continue with mirrorctl keygen --next, then --retire"});
    }
    Result<KeyPlan> plan;
    if (!had_pairs && pairs) {
        auto all = keys_of_all(owners);
        if (!all) {
            return Failure(all.error());
        }
        all->insert(all->begin(), keys.begin(), keys.end());
        plan = hand_out(*all, owners);
        plan->done = fmt::format(
            "added a key for each pair of nodes: they are accepted, and {} is still used",
            keys.front().name);
    } else {
        plan = had_pairs ? add_to_pairs(std::move(keys), owners)
                         : add_to_cluster(std::move(keys), owners);
    }
    if (plan) {
        plan->next = "mirrorctl check, and when it finds no problem: mirrorctl keygen --next";
    }
    return plan;
}

Result<KeyPlan> plan_next(PskKeys keys, const KeyOwners& owners) {
    bool changed = false;
    if (is_changing_kind(keys)) {
        std::stable_partition(keys.begin(), keys.end(),
                              [first = slot_of(keys.front()).has_value()](const PskKey& key) {
                                  return slot_of(key).has_value() != first;
                              });
        changed = true;
    } else {
        for (const auto& [slot, places] : by_slot(keys)) {
            if (places.size() > 1 && is_meant(slot, owners)) {
                std::swap(keys[places[0]], keys[places[1]]);
                changed = true;
            }
        }
    }
    if (!changed) {
        return no_second(keys);
    }
    KeyPlan plan{std::move(keys),
                 {},
                 "mirrorctl check shows which key each link uses (mirrorctl restart-engine VOLUME "
                 "renews one), then: mirrorctl keygen --retire"};
    plan.done = "new connections use the successors; the previous keys are still accepted";
    tell_others(plan, owners);
    return plan;
}

Result<KeyPlan> plan_retire(PskKeys keys, const KeyOwners& owners) {
    PskKeys gone;
    PskKeys kept;
    const bool changes_kind = is_changing_kind(keys);
    const bool first_is_pair = has_pairs({keys.front()});
    std::map<Slot, int> seen;
    for (const PskKey& key : keys) {
        const Slot slot = slot_of(key);
        const bool goes = changes_kind ? slot.has_value() != first_is_pair
                                       : seen[slot]++ > 0 && is_meant(slot, owners);
        (goes ? gone : kept).push_back(key);
    }
    if (gone.empty()) {
        return no_second(keys);
    }
    KeyPlan plan{std::move(kept), {}, "mirrorctl check"};
    plan.done =
        fmt::format("{} {} removed; connections opened with {} end within seconds", names_of(gone),
                    gone.size() == 1 ? "is" : "are", gone.size() == 1 ? "it" : "them");
    tell_others(plan, owners);
    return plan;
}

Result<KeyPlan> plan_remove(PskKeys keys, const KeyOwners& owners) {
    const auto is_shared = [&](const PskKey& key) {
        const Slot slot = slot_of(key);
        return slot && slot->has(owners.with);
    };
    PskKeys gone;
    std::copy_if(keys.begin(), keys.end(), std::back_inserter(gone), is_shared);
    std::erase_if(keys, is_shared);
    const bool has_cluster_key = !std::all_of(keys.begin(), keys.end(), slot_of);
    if (gone.empty() || has_cluster_key) {
        return Failure(Error{
            ErrorKind::refused,
            has_cluster_key ? fmt::format("{} is a key of the whole cluster, and {} has it, too",
                                          std::find_if_not(keys.begin(), keys.end(), slot_of)->name,
                                          owners.with)
                            : fmt::format("no key here is shared with {}", owners.with),
            has_cluster_key
                ? "replace it on the nodes that stay: mirrorctl keygen --add, --next, --retire"
                : ""});
    }
    if (keys.empty()) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} has no key with any node but {}", owners.node, owners.with),
                  "delete the file: all connections end within a minute"});
    }
    KeyPlan plan{std::move(keys), {}, "mirrorctl check"};
    plan.done = fmt::format("{} were removed: connections from and to {} end within seconds",
                            names_of(gone), owners.with);
    for (const std::string& node : owners.others) {
        if (node != owners.with) {
            plan.others.push_back({node, Way::itself});
        }
    }
    return plan;
}

Result<KeyPlan> plan_take(PskKeys keys, const PskKeys& given, const KeyOwners& owners) {
    PskKeys taken;
    for (const PskKey& key : given) {
        const Slot slot = slot_of(key);
        if (!slot || !slot->has(owners.node)) {
            return fail(ErrorKind::refused, "the key {} is not shared by {} with another node",
                        key.name, owners.node);
        }
        const auto same = std::find_if(keys.begin(), keys.end(), [&](const PskKey& each) {
            return each.name == key.name && each.secret == key.secret;
        });
        if (same == keys.end()) {
            taken.push_back(key);
        }
    }
    keys.insert(keys.end(), taken.begin(), taken.end());
    auto whole = tls::parse_psk_keys(tls::text_of(keys), "the combined keys");
    if (!whole) {
        return Failure(whole.error());
    }
    return KeyPlan{
        std::move(keys),
        taken.empty() ? "there is nothing new in it" : fmt::format("took {}", names_of(taken)),
        "mirrorctl check"};
}

}  // namespace mirror::tools
