// SPDX-License-Identifier: BSD-3-Clause
// The whole table of the handshake: lineage relation × roles × replica states × clean or unclean ×
// maps empty or not × promoted by force, seen from both ends. What is expected stands in the rules
// below, said once more and in another form than in the code: the first rule that fits decides.
// MIRROR_PRINT_TABLE=1 prints every row that differs in action or reason.
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/lineage/handshake.hpp"
#include "tests/unit/replicas.hpp"

using namespace mirror;
using test::lineage_of;
using test::replica;

namespace {

enum class Roles { we, they, both, nobody };
enum class Usable { yes, no };

/// Unset: any.
struct Rule {
    const char* name;
    std::optional<Relation> relation;  ///< of ours to theirs, from the active's view where one is
    std::optional<Roles> roles;
    std::set<ReplicaState> source;  ///< the active's state; empty: any
    std::set<ReplicaState> target;
    bool both_usable;  ///< both hold data that counts
    Action expected;   ///< from the active's view
    const char* reason;
};

using enum ReplicaState;
const std::set<ReplicaState> any{};
const std::set<ReplicaState> not_usable{fresh, inconsistent, failed};

/// For one active and one standby `expected` is what the active does.
const std::vector<Rule> rules{
    {"split brain",
     Relation::diverged,
     {},
     any,
     any,
     false,
     Action::diverged,
     "diverged since a common generation"},
    {"two histories, both with data",
     Relation::unrelated,
     {},
     any,
     any,
     true,
     Action::diverged,
     "no generation in common"},
    {"two actives", {}, Roles::both, any, any, false, Action::refuse, "are both active"},
    {"nobody active", {}, Roles::nobody, any, any, false, Action::nobody_active, "is active; "},
    {"an active without data",
     {},
     {},
     not_usable,
     any,
     false,
     Action::refuse,
     "can't be the source"},
    {"an active on older data",
     Relation::behind,
     {},
     any,
     any,
     false,
     Action::peer_is_newer,
     "has newer data than"},
    {"a target that tells nothing",
     {},
     {},
     any,
     {fresh, failed},
     false,
     Action::full_to_peer,
     "all of it is compared"},
    {"a half-filled one of another history",
     Relation::unrelated,
     {},
     any,
     any,
     false,
     Action::full_to_peer,
     "all of it is compared"},
    {"an older or equal standby", {}, {}, any, any, false, Action::resync_to_peer, ""},
};

bool usable(ReplicaState state) {
    return state == up_to_date || state == stale;
}

/// Lineages in which ours has the wanted relation to theirs; `forced`: whose newest generation a
/// forced promotion began.
std::pair<Lineage, Lineage> lineages_for(Relation relation, bool we_forced, bool they_forced) {
    const auto grow = [](Lineage lineage, std::uint8_t id, bool forced) {
        lineage.begin(test::generation_id(id), {}, "alpha",
                      forced ? GenerationReason::forced_promotion : GenerationReason::peer_lost);
        return lineage;
    };
    const Lineage base = lineage_of({2, 1});
    switch (relation) {
        case Relation::equal: {
            const Lineage both = grow(base, 3, we_forced || they_forced);
            return {both, both};
        }
        case Relation::ahead:
            return {grow(grow(base, 3, they_forced), 4, we_forced), grow(base, 3, they_forced)};
        case Relation::behind:
            return {grow(base, 3, we_forced), grow(grow(base, 3, we_forced), 4, they_forced)};
        case Relation::diverged:
            return {grow(base, 3, we_forced), grow(base, 4, they_forced)};
        case Relation::unrelated:
            return {grow(base, 3, we_forced), grow(lineage_of({9, 8}), 10, they_forced)};
    }
    return {};
}

Relation mirror_of(Relation relation) {
    return relation == Relation::ahead    ? Relation::behind
           : relation == Relation::behind ? Relation::ahead
                                          : relation;
}

const Rule& rule_for(Relation relation, Roles roles, ReplicaState ours, ReplicaState theirs) {
    const bool from_there = roles == Roles::they;
    const ReplicaState source = from_there ? theirs : ours;
    const ReplicaState target = from_there ? ours : theirs;
    const Relation seen = from_there ? mirror_of(relation) : relation;
    for (const Rule& rule : rules) {
        const bool fits = (!rule.relation || *rule.relation == seen) &&
                          (!rule.roles || *rule.roles == roles) &&
                          (rule.source.empty() || rule.source.contains(source)) &&
                          (rule.target.empty() || rule.target.contains(target)) &&
                          (!rule.both_usable || (usable(ours) && usable(theirs)));
        if (fits) {
            return rule;
        }
    }
    return rules.back();
}

}  // namespace

TEST_CASE("every row of the handshake's table, from both ends, with its reason") {
    const bool print = std::getenv("MIRROR_PRINT_TABLE") != nullptr;
    const std::vector<ReplicaState> states{fresh, up_to_date, stale, inconsistent, failed};
    std::map<std::string, std::size_t> hits;
    std::set<std::string> printed;
    std::size_t rows = 0;
    std::size_t wrong = 0;
    for (unsigned bits = 0; bits < 4 * 64; ++bits) {
        const auto bit = [&](unsigned number) { return (bits >> number & 1U) != 0; };
        const Roles roles =
            bit(0) ? (bit(1) ? Roles::both : Roles::we) : (bit(1) ? Roles::they : Roles::nobody);
        for (const Relation relation : {Relation::equal, Relation::ahead, Relation::behind,
                                        Relation::diverged, Relation::unrelated}) {
            const auto [our_lineage, their_lineage] = lineages_for(relation, bit(6), bit(7));
            REQUIRE(relate(our_lineage, their_lineage) == relation);
            for (const ReplicaState our_state : states) {
                for (const ReplicaState their_state : states) {
                    ReplicaSummary ours = replica("alpha", bit(0) ? Role::active : Role::standby,
                                                  our_state, our_lineage);
                    ReplicaSummary theirs = replica("beta", bit(1) ? Role::active : Role::standby,
                                                    their_state, their_lineage);
                    ours.unclean = bit(2);
                    theirs.unclean = bit(3);
                    ours.intent_bytes = ours.changed_bytes = bit(4) ? 1 * MiB : 0;
                    theirs.intent_bytes = theirs.changed_bytes = bit(5) ? 1 * MiB : 0;
                    const Decision here = decide(ours, theirs);
                    const Decision there = decide(theirs, ours);
                    const Rule& rule = rule_for(relation, roles, our_state, their_state);
                    const Action expected =
                        roles == Roles::they ? mirrored(rule.expected) : rule.expected;
                    const bool rolls_back = rule.expected == Action::resync_to_peer &&
                                            (roles == Roles::they ? ours : theirs).unclean;
                    const std::string phrase =
                        rolls_back ? "replaced with the data of"
                        : rule.expected == Action::resync_to_peer
                            ? (relation == Relation::equal ? "same point of their history"
                                                           : "is behind")
                            : rule.reason;
                    const bool right = here.action == expected &&
                                       there.action == mirrored(expected) &&
                                       here.reason.find(phrase) != std::string::npos &&
                                       there.reason.find(phrase) != std::string::npos;
                    ++rows;
                    ++hits[rule.name];
                    if (!right && ++wrong < 10) {
                        MESSAGE(rule.name, ": ", to_string(relation), ", ", to_string(our_state),
                                " against ", to_string(their_state), ": ", to_string(here.action),
                                " and ", to_string(there.action), ": ", here.reason);
                    }
                    if (print && printed.insert(here.reason).second) {
                        MESSAGE(to_string(relation), " | ", to_string(ours.role), " ",
                                to_string(our_state), " | ", to_string(theirs.role), " ",
                                to_string(their_state), " | ", to_string(here.action), " | ",
                                here.reason);
                    }
                }
            }
        }
    }
    CHECK(wrong == 0);
    CHECK(rows == 5 * 4 * 25 * 4 * 4 * 4);
    CHECK(hits.size() == rules.size());  // no rule that nothing ever reaches
}

TEST_CASE("neither maps nor who promoted by force nor the token change what two replicas do") {
    for (const Relation relation : {Relation::equal, Relation::ahead, Relation::behind,
                                    Relation::diverged, Relation::unrelated}) {
        for (const ReplicaState state : {fresh, up_to_date, stale, inconsistent, failed}) {
            const auto [our_lineage, their_lineage] = lineages_for(relation, false, false);
            const auto [our_forced, their_forced] = lineages_for(relation, true, true);
            ReplicaSummary ours = replica("alpha", Role::active, up_to_date, our_lineage);
            ReplicaSummary theirs = replica("beta", Role::standby, state, their_lineage);
            const Decision plain = decide(ours, theirs);
            ours.lineage = our_forced;
            theirs.lineage = their_forced;
            ours.last_active = theirs.last_active = true;
            ours.intent_bytes = theirs.changed_bytes = 4096;
            CHECK(decide(ours, theirs).action == plain.action);
        }
    }
}
