// SPDX-License-Identifier: BSD-3-Clause
// When the step is raised (core/lineage/steps.hpp): by the real engine and the real replica, on
// disks in memory.
#include <atomic>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "core/lineage/relation.hpp"
#include "core/maps/intent_map.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using test::Barrier;
using test::eventually;
using test::MirrorPair;
using test::pattern;
using test::superblock_on;

namespace {

Steps durable_steps(test::Machine& machine) {
    return superblock_on(*test::durable_image(machine.meta)).steps;
}

Result<void> write(MirrorPair& pair, unsigned seed) {
    return pair.volume().write(pattern(4096, seed), 0, Durability::cached);
}

}  // namespace

TEST_CASE("leaving a quiet time is told once, after the intent is durable and before the write") {
    constexpr std::uint64_t regions = 100;
    unsigned told = 0;
    bool durable = false;
    Result<void> answer;
    IntentMap map(
        regions * region_size,
        [&](const Bitmap& bits, const std::vector<std::uint64_t>&) -> Result<void> {
            durable = !bits.empty();
            return {};
        },
        [&]() -> Result<void> {
            CHECK(durable);
            ++told;
            return answer;
        });
    const auto settle = [] { return Result<void>{}; };
    CHECK(map.enter({0, 4096}));
    CHECK(told == 1);
    CHECK(map.enter({region_size, 4096}));
    CHECK(map.try_enter({0, 4096}));
    CHECK(told == 1);
    REQUIRE(map.checkpoint(IntentMap::Clear::all, settle));
    CHECK(told == 1);  // clearing is no write
    CHECK_FALSE(map.try_enter({0, 4096}));
    answer = fail(ErrorKind::io, "can't be written");
    CHECK_FALSE(map.enter({0, 4096}));
    answer = {};
    CHECK(map.enter({0, 4096}));
    CHECK(told == 3);
}

TEST_CASE("the first write after a quiet time is acknowledged under a step that both have") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Steps before = durable_steps(pair.alpha);
    Barrier barrier;
    std::atomic<bool> acknowledged{false};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "session-step") {
            CHECK(durable_steps(pair.alpha).offered > before.taken);
            CHECK(durable_steps(pair.alpha).taken == before.taken);
            barrier.wait();
            CHECK_FALSE(acknowledged);
        }
        return {};
    });
    std::thread writer([&] {
        CHECK(write(pair, 1));
        acknowledged = true;
    });
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    CHECK_FALSE(acknowledged);
    barrier.open();
    writer.join();
    const Steps alpha = durable_steps(pair.alpha);
    CHECK(alpha.taken > before.taken);
    CHECK(durable_steps(pair.beta).taken == alpha.taken);
    CHECK(durable_steps(pair.beta).content == alpha.taken);
    // The region has its intent: further writes to it ask nobody.
    pair.server().on_request([](const std::string& what) -> Result<void> {
        CHECK(what != "session-step");
        return {};
    });
    CHECK(write(pair, 2));
}

TEST_CASE("a standby that can't take the step is left out, with a generation that says so") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.server().on_request([](const std::string& what) -> Result<void> {
        return what == "session-step" || what == "handshake" ? fail(ErrorKind::io, "full")
                                                             : Result<void>{};
    });
    CHECK(write(pair, 1));
    CHECK(relate(summarize(superblock_on(*test::durable_image(pair.alpha.meta)), 0, 0),
                 summarize(superblock_on(*test::durable_image(pair.beta.meta)), 0, 0)) ==
          Relation::ahead);
    pair.server().on_request({});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a standby that took the step and could not say so is no older copy, nor is the active") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.server().on_answer([](const std::string& what) -> Result<void> {
        return what == "session-step" ? fail(ErrorKind::io, "lost") : Result<void>{};
    });
    CHECK(write(pair, 1));
    pair.server().on_answer({});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("compared_bytes") < test::pair_size);
    CHECK(pair.equal());
}

TEST_CASE("before intents are cleared both have a step that is newer than their writes") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    CHECK(write(pair, 1));
    const std::uint64_t written = durable_steps(pair.alpha).taken;
    REQUIRE(pair.ask({{"request", "quiesce"}}).contains("summary"));
    CHECK(test::map_on(*test::durable_image(pair.alpha.meta), MapKind::intent).empty());
    const Steps alpha = durable_steps(pair.alpha);
    CHECK(alpha.taken > written);
    CHECK(alpha.maps_from == alpha.taken);
    CHECK(durable_steps(pair.beta).taken == alpha.taken);
}
