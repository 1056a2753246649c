// SPDX-License-Identifier: BSD-3-Clause
// Two nodes through some millions of random steps: writes, cuts, deaths, losses of power with any
// part of what was not flushed, promotions of all sorts, switches, resyncs and interrupted ones.
// What is under test is real: Membership, Differences, MetaFile, Replica, the handshake, the
// promotion verdict. After each step the invariants hold, and each episode ends with two equal
// replicas.
//
// MIRROR_MODEL_SEED=N runs the episode N alone and prints its last moves; MIRROR_MODEL_STEPS=N
// sets how long a run is.
#include <chrono>
#include <cstdlib>
#include <string>

#include <doctest/doctest.h>

#include "model_world.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

constexpr std::uint64_t default_steps = 4'000'000;
constexpr std::uint64_t first_seed = 1;

std::optional<std::uint64_t> number_from_environment(const char* name) {
    const char* text = std::getenv(name);
    return text == nullptr ? std::nullopt
                           : std::optional<std::uint64_t>(std::strtoull(text, nullptr, 10));
}

void add(ModelWorld::Figures& sum, const ModelWorld::Figures& more) {
    sum.steps += more.steps;
    sum.writes += more.writes;
    sum.sessions += more.sessions;
    sum.promotions += more.promotions;
    sum.forced += more.forced;
    sum.fenced += more.fenced;
    sum.refused += more.refused;
    sum.process_deaths += more.process_deaths;
    sum.power_losses += more.power_losses;
    sum.cuts += more.cuts;
    sum.diverged += more.diverged;
    sum.discarded += more.discarded;
    sum.demotes += more.demotes;
    sum.put_back += more.put_back;
}

/// Whether all went well.
bool run_episode(std::uint64_t seed, ModelWorld::Figures& sum, bool always_trace) {
    ModelWorld world(seed);
    // Short ones find what the first steps do, long ones what needs a history.
    const std::uint64_t steps = seed % 4 == 0 ? 4000 : 100 + seed % 7 * 100;
    for (std::uint64_t i = 0; i < steps && world.violation().empty(); ++i) {
        world.step();
    }
    if (world.violation().empty()) {
        world.recover();
    }
    add(sum, world.figures());
    if (always_trace || !world.violation().empty()) {
        MESSAGE("episode ", seed, ": ", world.trace());
    }
    CHECK_MESSAGE(world.violation() == "", "MIRROR_MODEL_SEED=", seed, ": ", world.violation());
    return world.violation().empty();
}

}  // namespace

TEST_CASE("two nodes keep their promises through millions of random steps") {
    ModelWorld::Figures sum;
    if (const auto seed = number_from_environment("MIRROR_MODEL_SEED")) {
        (void)run_episode(*seed, sum, true);
        return;
    }
    const std::uint64_t wanted =
        number_from_environment("MIRROR_MODEL_STEPS").value_or(default_steps);
    std::uint64_t seed = first_seed;
    while (sum.steps < wanted && run_episode(seed, sum, false)) {
        ++seed;
    }
    MESSAGE("episodes ", first_seed, " to ", seed - 1, ": ", sum.steps, " steps, ", sum.writes,
            " writes, ", sum.sessions, " sessions, ", sum.promotions, " promotions (", sum.forced,
            " forced, ", sum.fenced, " fenced, ", sum.refused, " refused), ", sum.demotes,
            " demotes, ", sum.process_deaths, " deaths of processes, ", sum.power_losses,
            " losses of power, ", sum.cuts, " cuts, ", sum.diverged, " met diverged, ",
            sum.discarded, " made anew, ", sum.put_back, " put back to an older image");
    if (sum.steps >= default_steps) {
        CHECK(sum.forced > 100);
        CHECK(sum.fenced > 100);
        CHECK(sum.diverged > 100);
        CHECK(sum.put_back > 100);
    }
}
