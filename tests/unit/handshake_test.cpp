// SPDX-License-Identifier: BSD-3-Clause
#include "core/lineage/handshake.hpp"

#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/replicas.hpp"

using namespace mirror;
using test::lineage_of;
using test::replica;

namespace {

const Lineage old_data = lineage_of({2, 1});
const Lineage new_data = lineage_of({3, 2, 1});
const Lineage other_branch = lineage_of({4, 2, 1});
const Lineage foreign = lineage_of({9, 8});

constexpr Role active = Role::active;
constexpr Role standby = Role::standby;
constexpr ReplicaState fresh = ReplicaState::fresh;
constexpr ReplicaState up_to_date = ReplicaState::up_to_date;
constexpr ReplicaState stale = ReplicaState::stale;
constexpr ReplicaState inconsistent = ReplicaState::inconsistent;
constexpr ReplicaState failed = ReplicaState::failed;

bool holds_nothing_usable(const ReplicaSummary& summary) {
    return summary.state == fresh || summary.state == inconsistent || summary.state == failed;
}

/// Every replica that the rules can tell apart, of one node.
std::vector<ReplicaSummary> every_replica(const std::string& node) {
    std::vector<ReplicaSummary> all;
    for (const Lineage& lineage : {Lineage{}, old_data, new_data, other_branch, foreign}) {
        for (Role role : {standby, active}) {
            for (ReplicaState state : {fresh, up_to_date, stale, inconsistent, failed}) {
                for (unsigned flags = 0; flags < 8; ++flags) {
                    ReplicaSummary summary = replica(node, role, state, lineage);
                    summary.unclean = (flags & 1U) != 0;
                    summary.intent_bytes = (flags & 2U) != 0 ? 4096 : 0;
                    summary.changed_bytes = (flags & 2U) != 0 ? 8192 : 0;
                    summary.last_active = (flags & 4U) != 0;
                    all.push_back(summary);
                }
            }
        }
    }
    return all;
}

}  // namespace

TEST_CASE("what two replicas of one volume do, case by case") {
    struct Row {
        const char* story;
        Role our_role;
        ReplicaState our_state;
        const Lineage& ours;
        Role their_role;
        ReplicaState their_state;
        const Lineage& theirs;
        Action expected;
    };
    const std::array<Row, 27> rows{{
        {"back after a short loss", active, up_to_date, old_data, standby, up_to_date, old_data,
         Action::resync_to_peer},
        {"back after the active went on alone", active, up_to_date, new_data, standby, up_to_date,
         old_data, Action::resync_to_peer},
        {"a stale standby", active, up_to_date, new_data, standby, stale, old_data,
         Action::resync_to_peer},
        {"a resync was interrupted", active, up_to_date, new_data, standby, inconsistent, new_data,
         Action::resync_to_peer},
        {"the same, before the target took the lineage", active, up_to_date, new_data, standby,
         inconsistent, old_data, Action::resync_to_peer},
        {"a new standby", active, up_to_date, new_data, standby, fresh, Lineage{},
         Action::full_to_peer},
        {"the standby's disk failed", active, up_to_date, new_data, standby, failed, old_data,
         Action::full_to_peer},
        {"a half-filled standby whose history is too short", active, up_to_date, new_data, standby,
         inconsistent, foreign, Action::full_to_peer},
        {"the standby has gone beyond us", active, up_to_date, old_data, standby, up_to_date,
         new_data, Action::peer_is_newer},
        {"the same, and its resync never ended", active, up_to_date, old_data, standby,
         inconsistent, new_data, Action::peer_is_newer},
        {"newer, on a failed disk: still not ours to overwrite", active, up_to_date, old_data,
         standby, failed, new_data, Action::peer_is_newer},
        {"split brain, one demoted since", active, up_to_date, new_data, standby, up_to_date,
         other_branch, Action::diverged},
        {"split brain, interrupted resync", active, up_to_date, new_data, standby, inconsistent,
         other_branch, Action::diverged},
        {"split brain, both active", active, up_to_date, new_data, active, up_to_date, other_branch,
         Action::diverged},
        {"split brain, none active", standby, up_to_date, new_data, standby, stale, other_branch,
         Action::diverged},
        {"histories that have nothing in common", active, up_to_date, new_data, standby, up_to_date,
         foreign, Action::diverged},
        {"the same, none active", standby, up_to_date, new_data, standby, stale, foreign,
         Action::diverged},
        {"two actives, we are newer", active, up_to_date, new_data, active, up_to_date, old_data,
         Action::refuse},
        {"two actives on one generation", active, up_to_date, old_data, active, up_to_date,
         old_data, Action::refuse},
        {"our disk failed while active", active, failed, old_data, standby, up_to_date, old_data,
         Action::refuse},
        {"active on a half-overwritten replica", active, inconsistent, new_data, standby,
         up_to_date, old_data, Action::refuse},
        {"active on a new replica", active, fresh, Lineage{}, standby, fresh, Lineage{},
         Action::refuse},
        {"both rebooted", standby, up_to_date, old_data, standby, up_to_date, old_data,
         Action::nobody_active},
        {"both rebooted, the peer is newer", standby, stale, old_data, standby, up_to_date,
         new_data, Action::nobody_active},
        {"both new", standby, fresh, Lineage{}, standby, fresh, Lineage{}, Action::nobody_active},
        {"a new one beside a standby", standby, up_to_date, old_data, standby, fresh, Lineage{},
         Action::nobody_active},
        {"forced onto stale data that the peer has not left", active, stale, old_data, standby,
         up_to_date, old_data, Action::resync_to_peer},
    }};
    for (const Row& row : rows) {
        CAPTURE(row.story);
        const ReplicaSummary ours = replica("alpha", row.our_role, row.our_state, row.ours);
        const ReplicaSummary theirs = replica("beta", row.their_role, row.their_state, row.theirs);
        CHECK(to_string(decide(ours, theirs).action) == to_string(row.expected));
        CHECK(to_string(decide(theirs, ours).action) == to_string(mirrored(row.expected)));
    }
}

TEST_CASE("what holds for every pair of replicas") {
    const std::vector<ReplicaSummary> all_ours = every_replica("alpha");
    const std::vector<ReplicaSummary> all_theirs = every_replica("beta");
    std::size_t broken = 0;
    const auto expect = [&](bool holds, const char* what, const ReplicaSummary& ours,
                            const ReplicaSummary& theirs, const Decision& decision) {
        if (!holds && ++broken < 10) {
            MESSAGE(what, ": ", to_string(decision.action), ": ", decision.reason, " for ",
                    to_string(ours.state), " against ", to_string(theirs.state));
        }
    };
    for (const ReplicaSummary& ours : all_ours) {
        for (const ReplicaSummary& theirs : all_theirs) {
            const Decision here = decide(ours, theirs);
            const Decision there = decide(theirs, ours);
            const Action action = here.action;
            const bool to_peer = here.replicates_to_peer();
            const bool session =
                to_peer || action == Action::resync_from_peer || action == Action::full_from_peer;
            const ReplicaSummary& source = to_peer ? ours : theirs;
            const ReplicaSummary& target = to_peer ? theirs : ours;
            const auto holds = [&](bool what, const char* words) {
                expect(what, words, ours, theirs, here);
            };
            holds(mirrored(action) == there.action, "both ends agree");
            holds(mirrored(mirrored(action)) == action, "a mirror of a mirror is the thing");
            holds(here.reason.find("alpha") != std::string::npos &&
                      here.reason.find("beta") != std::string::npos,
                  "the reason names both nodes");
            holds(!session || (source.role == active && target.role == standby),
                  "only an active is a source, only a standby a target");
            holds(!session || !holds_nothing_usable(source), "the source has data");
            const Relation relation = relate(ours.lineage, theirs.lineage);
            holds(relation != Relation::diverged || action == Action::diverged,
                  "a split brain is never resynced");
            holds(!session || relate(target.lineage, source.lineage) != Relation::ahead,
                  "newer data is never overwritten");
            holds(action != Action::unrelated, "one volume id means related");
            holds(
                (ours.role == standby && theirs.role == standby) || action != Action::nobody_active,
                "nobody is active only where nobody is");
        }
    }
    CHECK(broken == 0);
}

TEST_CASE("a split brain that was decided is resynced, one that was not never is") {
    struct Row {
        const char* story;
        Role our_role;
        ReplicaState our_state;
        std::uint8_t we_yield_to;
        Role their_role;
        ReplicaState their_state;
        const Lineage& theirs;
        std::uint8_t they_yield_to;
        Action expected;
    };
    const Lineage grown = lineage_of({5, 3, 2, 1});
    const std::array<Row, 16> rows{{
        {"the standby yields", active, up_to_date, 0, standby, stale, other_branch, 3,
         Action::resync_to_peer},
        {"its resync was interrupted", active, up_to_date, 0, standby, inconsistent, other_branch,
         3, Action::resync_to_peer},
        {"it was up to date when it yielded", active, up_to_date, 0, standby, up_to_date,
         other_branch, 3, Action::resync_to_peer},
        {"it yields to a generation that we have gone beyond", active, up_to_date, 0, standby,
         stale, other_branch, 2, Action::resync_to_peer},
        {"its disk failed", active, up_to_date, 0, standby, failed, other_branch, 3,
         Action::full_to_peer},
        {"nothing in common, and it yields", active, up_to_date, 0, standby, stale, foreign, 3,
         Action::full_to_peer},
        {"it yields to a generation that we don't have", active, up_to_date, 0, standby, stale,
         other_branch, 6, Action::diverged},
        {"it yields to its own generation", active, up_to_date, 0, standby, stale, other_branch, 4,
         Action::diverged},
        {"an active never yields", active, up_to_date, 0, active, stale, other_branch, 3,
         Action::diverged},
        {"we are active and should have yielded", active, up_to_date, 4, standby, up_to_date,
         other_branch, 0, Action::diverged},
        {"we are active, an old yield does not count against the peer's", active, up_to_date, 4,
         standby, stale, other_branch, 3, Action::resync_to_peer},
        {"both yield: nobody's data would stay", standby, stale, 4, standby, stale, other_branch, 3,
         Action::diverged},
        {"none active, the peer yields", standby, up_to_date, 0, standby, stale, other_branch, 3,
         Action::nobody_active},
        {"none active, we yield", standby, stale, 4, standby, up_to_date, other_branch, 0,
         Action::nobody_active},
        {"the source's disk failed since", active, failed, 0, standby, stale, other_branch, 3,
         Action::refuse},
        {"the source is half overwritten", active, inconsistent, 0, standby, stale, other_branch, 3,
         Action::refuse},
    }};
    for (const Row& row : rows) {
        CAPTURE(row.story);
        ReplicaSummary ours = replica("alpha", row.our_role, row.our_state, new_data);
        ReplicaSummary theirs = replica("beta", row.their_role, row.their_state, row.theirs);
        ours.yields_to = test::generation_id(row.we_yield_to);
        theirs.yields_to = test::generation_id(row.they_yield_to);
        const Decision here = decide(ours, theirs);
        const Decision there = decide(theirs, ours);
        CHECK(to_string(here.action) == to_string(row.expected));
        CHECK(to_string(there.action) == to_string(mirrored(row.expected)));
        CHECK(here.reason.find("alpha") != std::string::npos);
        CHECK(here.reason.find("beta") != std::string::npos);
    }
    ReplicaSummary ours = replica("alpha", active, up_to_date, grown);
    ReplicaSummary theirs = replica("beta", standby, stale, other_branch);
    theirs.yields_to = test::generation_id(3);
    CHECK(decide(ours, theirs).action == Action::resync_to_peer);
    CHECK(yields(theirs, ours));
    CHECK_FALSE(yields(ours, theirs));
}

TEST_CASE("what holds for every pair also holds where somebody yields") {
    std::size_t broken = 0;
    for (ReplicaSummary ours : every_replica("alpha")) {
        if (ours.unclean || ours.last_active || ours.intent_bytes != 0) {
            continue;
        }
        for (ReplicaSummary theirs : every_replica("beta")) {
            if (theirs.unclean || theirs.last_active || theirs.intent_bytes != 0) {
                continue;
            }
            for (unsigned choice = 0; choice < 16; ++choice) {
                ours.yields_to = test::generation_id(static_cast<std::uint8_t>(choice & 3U) + 1);
                theirs.yields_to = test::generation_id(static_cast<std::uint8_t>(choice >> 2U) + 1);
                const Decision here = decide(ours, theirs);
                const bool to_peer = here.replicates_to_peer();
                const bool session = to_peer || here.action == Action::resync_from_peer ||
                                     here.action == Action::full_from_peer;
                const ReplicaSummary& source = to_peer ? ours : theirs;
                const ReplicaSummary& target = to_peer ? theirs : ours;
                const bool split = relate(ours.lineage, theirs.lineage) == Relation::diverged;
                const bool good = mirrored(here.action) == decide(theirs, ours).action &&
                                  (!session || (source.role == active && target.role == standby)) &&
                                  (!session || !holds_nothing_usable(source)) &&
                                  (!session || !split || yields(target, source));
                broken += good ? 0 : 1;
            }
        }
    }
    CHECK(broken == 0);
}

TEST_CASE("an active replicates to a standby that is larger, never to one that is smaller") {
    for (ReplicaSummary theirs : every_replica("beta")) {
        if (theirs.role == active) {
            continue;
        }
        ReplicaSummary ours = replica("alpha", active, up_to_date, old_data);
        const Action equal = decide(ours, theirs).action;
        theirs.size += 4096;
        CHECK(decide(ours, theirs).action == equal);
        CHECK(decide(theirs, ours).action == mirrored(equal));
        ours.size += 8192;
        const Decision smaller = decide(ours, theirs);
        // What has diverged stays so whatever its size: a person can decide it.
        CHECK(smaller.action == (equal == Action::diverged ? equal : Action::refuse));
        CHECK(decide(theirs, ours).action == mirrored(smaller.action));
        CHECK((equal == Action::diverged || smaller.reason.find("resize") != std::string::npos));
    }
}

TEST_CASE("volumes that differ in id never replicate") {
    for (ReplicaSummary theirs : every_replica("beta")) {
        const ReplicaSummary ours = replica("alpha", active, up_to_date, old_data);
        theirs.volume.bytes[0] = 1;
        CHECK(decide(ours, theirs).action == Action::unrelated);
        CHECK(decide(theirs, ours).action == Action::unrelated);
    }
}

TEST_CASE("the reason says what a person must know") {
    const ReplicaSummary ours = replica("alpha", active, up_to_date, new_data);
    ReplicaSummary theirs = replica("beta", active, up_to_date, old_data);
    CHECK(decide(ours, theirs).reason ==
          "alpha and beta are both active; alpha is newer than beta: demote beta");
    CHECK(decide(theirs, ours).reason ==
          "beta and alpha are both active; alpha is newer than beta: demote beta");

    theirs.role = standby;
    theirs.unclean = true;
    CHECK(decide(ours, theirs).reason ==
          "beta (standby, up-to-date) was active and did not end cleanly: its unacknowledged "
          "writes are replaced with the data of alpha (active, up-to-date)");
    CHECK(decide(ours, theirs).reason == decide(theirs, ours).reason);
}

TEST_CASE("a standby that missed its own disk's failure is compared as a whole, whatever it says") {
    Lineage before;
    before.begin(random_id<GenerationId>(), WallTime{}, "alpha", GenerationReason::created);
    Lineage after = before;
    after.begin(random_id<GenerationId>(), WallTime{}, "alpha",
                GenerationReason::local_disk_failed);
    const ReplicaSummary source = replica("beta", active, up_to_date, after);
    CHECK(decide(source, replica("alpha", standby, up_to_date, before)).action ==
          Action::full_to_peer);
    CHECK(decide(replica("alpha", standby, up_to_date, before), source).action ==
          Action::full_from_peer);
    // Filled since; or the disk that failed was another's.
    CHECK(decide(source, replica("alpha", standby, up_to_date, after)).action ==
          Action::resync_to_peer);
    CHECK(decide(replica("alpha", active, up_to_date, after),
                 replica("beta", standby, up_to_date, before))
              .action == Action::resync_to_peer);
}

TEST_CASE("a standby of another session than the maps speak of is compared as a whole") {
    ReplicaSummary ours = replica("alpha", active, up_to_date, new_data);
    ReplicaSummary theirs = replica("beta", standby, up_to_date, old_data);
    ours.session.bytes[0] = 1;
    theirs.session = ours.session;
    CHECK(decide(ours, theirs).action == Action::resync_to_peer);
    theirs.session.bytes[0] = 2;
    CHECK(decide(ours, theirs).action == Action::full_to_peer);
    CHECK(decide(theirs, ours).action == Action::full_from_peer);
    CHECK(decide(ours, theirs).reason.find("restore from a backup") != std::string::npos);

    ours.session_begun = theirs.session;
    CHECK(decide(ours, theirs).action == Action::resync_to_peer);
    CHECK(decide(theirs, ours).action == Action::resync_from_peer);

    theirs.session = {};
    ours.session_begun = {};
    CHECK(decide(ours, theirs).action == Action::full_to_peer);
}
