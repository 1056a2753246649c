// SPDX-License-Identifier: BSD-3-Clause
#include <array>

#include <doctest/doctest.h>

#include "core/lineage/generation.hpp"
#include "tests/unit/replicas.hpp"

using namespace mirror;
using test::generation_id;
using test::lineage_of;

TEST_CASE("a new generation descends from the current one") {
    Lineage lineage;
    CHECK(lineage.current().is_none());
    lineage.begin(generation_id(1), WallTime{}, "alpha", GenerationReason::created);
    lineage.begin(generation_id(2), WallTime{}, "beta", GenerationReason::peer_lost);
    REQUIRE(lineage.entries().size() == 2);
    CHECK(lineage.current() == generation_id(2));
    CHECK(lineage.entries()[0].parent == generation_id(1));
    CHECK(lineage.entries()[0].node == "beta");
    CHECK(lineage.entries()[1].parent.is_none());
}

TEST_CASE("the oldest generation is dropped beyond the capacity") {
    Lineage lineage;
    for (std::uint8_t i = 1; i <= Lineage::capacity + 1; ++i) {
        lineage.begin(generation_id(i), WallTime{}, "alpha", GenerationReason::peer_lost);
    }
    CHECK(lineage.entries().size() == Lineage::capacity);
    CHECK(!lineage.contains(generation_id(1)));
    CHECK(lineage.contains(generation_id(2)));

    std::vector<Generation> too_many(Lineage::capacity + 5);
    CHECK(Lineage(too_many).entries().size() == Lineage::capacity);
}

TEST_CASE("relations between lineages, seen from both sides") {
    struct Row {
        Lineage ours;
        Lineage theirs;
        Relation there_and_here;
        Relation back;
    };
    const std::array<Row, 9> rows{{
        {lineage_of({2, 1}), lineage_of({2, 1}), Relation::equal, Relation::equal},
        {lineage_of({2}), lineage_of({2, 1}), Relation::equal, Relation::equal},
        {lineage_of({3, 2, 1}), lineage_of({2, 1}), Relation::ahead, Relation::behind},
        {lineage_of({4, 3, 2, 1}), lineage_of({1}), Relation::ahead, Relation::behind},
        {lineage_of({3, 1}), lineage_of({2, 1}), Relation::diverged, Relation::diverged},
        {lineage_of({5, 4, 1}), lineage_of({3, 2, 1}), Relation::diverged, Relation::diverged},
        {lineage_of({1, 2}), lineage_of({2, 1}), Relation::diverged, Relation::diverged},
        {lineage_of({4, 3}), lineage_of({2, 1}), Relation::unrelated, Relation::unrelated},
        {lineage_of({1}), Lineage{}, Relation::unrelated, Relation::unrelated},
    }};
    for (const Row& row : rows) {
        CHECK(relate(row.ours, row.theirs) == row.there_and_here);
        CHECK(relate(row.theirs, row.ours) == row.back);
    }
    CHECK(relate(Lineage{}, Lineage{}) == Relation::unrelated);
}

TEST_CASE("words of reasons, roles and states survive the way there and back") {
    for (int i = 0; i <= static_cast<int>(GenerationReason::resolved); ++i) {
        const auto reason = static_cast<GenerationReason>(i);
        CHECK(parse_generation_reason(to_string(reason)).value() == reason);
    }
    for (int i = 0; i <= static_cast<int>(ReplicaState::failed); ++i) {
        const auto state = static_cast<ReplicaState>(i);
        CHECK(parse_replica_state(to_string(state)).value() == state);
    }
    CHECK(parse_role("active").value() == Role::active);
    CHECK(parse_role("standby").value() == Role::standby);
    CHECK(to_string(ReplicaState::fresh) == "new");
    CHECK(parse_role("primary").error().message == "'primary' is not a role");
}
