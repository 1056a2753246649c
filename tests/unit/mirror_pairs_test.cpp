// SPDX-License-Identifier: BSD-3-Clause
// Whatever can happen happens where somebody asks the peer or waits for a disk, and then something
// else does, where somebody asks or waits after that. Nobody says where a fault might be: the
// places are those that a run passes. What is under test is real, but for mirrord: Volume, Peer,
// Session, Replica, the NBD server between them. What is promised is checked between the steps and
// when all is mended (pair_run_promises.cpp).
//
// Each single fault is tried, and of the pairs one in MIRROR_PAIRS_ONE_OF: 1 tries all of them.
// MIRROR_PAIRS_RUN='disk-error:late@ask generation#1,disk-error@alpha disk writing#1' repeats one
// run and prints what happened; MIRROR_PAIRS_TIMES=N repeats it N times.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/ranges.h>

#include "pair_run.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

/// Most of them wait for a timeout most of the time.
constexpr unsigned runs_at_once = 8;
constexpr std::size_t most_shown = 20;
constexpr std::size_t usual_sample = 1000;

constexpr Script scripts[] = {Script::plain, Script::disk_error, Script::reconnect};

struct Plan {
    Script script = Script::plain;
    std::vector<Fault> faults{};
};

struct Outcome {
    std::size_t fired = 0;
    std::vector<Place> passed{};
};

struct Sum {
    Mutex mutex;
    std::size_t runs GUARDED_BY(mutex) = 0;
    std::size_t complete GUARDED_BY(mutex) = 0;  ///< every fault took place
    std::vector<std::string> violations GUARDED_BY(mutex);
};

std::size_t one_of_how_many() {
    const char* text = std::getenv("MIRROR_PAIRS_ONE_OF");
    return text == nullptr ? usual_sample
                           : std::max<std::size_t>(std::strtoul(text, nullptr, 10), 1);
}

Outcome carry_out(const Plan& plan, Sum& sum) {
    PairRun run(plan.script, plan.faults);
    std::vector<std::string> violations;
    try {
        run.run();
        violations = run.violations();
    } catch (...) {
        violations = {"something that the test takes for granted is not so"};
    }
    MutexLock lock(sum.mutex);
    ++sum.runs;
    sum.complete += run.fired() == plan.faults.size() ? 1U : 0U;
    if (!violations.empty()) {
        sum.violations.push_back(fmt::format("{}: {}", run.name(), fmt::join(violations, "; ")));
        // At once, too: a long run may be ended before it can sum up.
        fmt::print(stderr, "mirror_pairs: {}\n", sum.violations.back());
    }
    return {run.fired(), run.passed()};
}

std::vector<Outcome> carry_out_all(const std::vector<Plan>& plans, Sum& sum) {
    std::vector<Outcome> outcomes(plans.size());
    std::atomic<std::size_t> next{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < runs_at_once; ++i) {
        threads.emplace_back([&] {
            for (std::size_t at = next++; at < plans.size(); at = next++) {
                outcomes[at] = carry_out(plans[at], sum);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    return outcomes;
}

/// Each plan with one more fault, at the places that it passed after its last one.
std::vector<Plan> with_one_more(const std::vector<Plan>& plans,
                                const std::vector<Outcome>& outcomes, unsigned most_occurrences) {
    std::vector<Plan> longer;
    for (std::size_t i = 0; i < plans.size(); ++i) {
        if (outcomes[i].fired != plans[i].faults.size()) {
            continue;
        }
        const bool late =
            !plans[i].faults.empty() && (plans[i].faults.back().event == Incident::late);
        for (const Place& place : outcomes[i].passed) {
            if (place.occurrence > most_occurrences) {
                continue;
            }
            for (std::size_t event = 0; event < incident_count; ++event) {
                const Fault fault{static_cast<Incident>(event), place};
                if (fits(fault.event, place.point, late)) {
                    longer.push_back(plans[i]);
                    longer.back().faults.push_back(fault);
                }
            }
        }
    }
    return longer;
}

/// One of so many, always the same ones; more of those around the questions that decide who has
/// everything.
std::vector<Plan> choose(const std::vector<Plan>& pairs, std::size_t one_of) {
    std::vector<Plan> chosen;
    std::size_t deciding = 0;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
        const auto decides = [](const Fault& fault) {
            return fault.place.point.find("generation") != std::string::npos;
        };
        const auto& faults = pairs[i].faults;
        const bool more = std::any_of(faults.begin(), faults.end(), decides);
        if (i % one_of == 0 || (more && deciding++ % std::max<std::size_t>(one_of / 16, 1) == 0)) {
            chosen.push_back(pairs[i]);
        }
    }
    return chosen;
}

void show(Sum& sum) {
    MutexLock lock(sum.mutex);
    MESSAGE(sum.runs, " runs, ", sum.complete, " of them with all their faults");
    for (std::size_t i = 0; i < std::min(sum.violations.size(), most_shown); ++i) {
        CHECK_MESSAGE(false, sum.violations[i]);
    }
    CHECK(sum.violations.size() == 0);
}

void repeat(const std::string& text) {
    const std::size_t colon = text.find(':');
    const auto faults = parse_faults(text.substr(std::min(colon + 1, text.size())));
    REQUIRE(colon != std::string::npos);
    REQUIRE(faults);
    const char* times = std::getenv("MIRROR_PAIRS_TIMES");
    for (const Script script : scripts) {
        for (int i = times == nullptr ? 1 : std::atoi(times);
             i > 0 && to_string(script) == text.substr(0, colon); --i) {
            PairRun run(script, *faults);
            run.run();
            if (times == nullptr || !run.violations().empty()) {
                MESSAGE(run.name(), "\n", run.trace());
            }
            CHECK(fmt::format("{}", fmt::join(run.violations(), "; ")) == "");
        }
    }
}

}  // namespace

TEST_CASE("whatever happens while somebody waits, and once more, the promises hold") {
    if (const char* one = std::getenv("MIRROR_PAIRS_RUN")) {
        return repeat(one);
    }
    Sum sum;
    std::vector<Plan> plans;
    for (const Script script : scripts) {
        plans.push_back({script});
    }
    auto outcomes = carry_out_all(plans, sum);
    plans = with_one_more(plans, outcomes, 2);
    const std::size_t singles = plans.size();
    fmt::print(stderr, "mirror_pairs: {} single faults\n", singles);
    outcomes = carry_out_all(plans, sum);
    plans = with_one_more(plans, outcomes, 1);
    const std::size_t pairs = plans.size();
    plans = choose(plans, one_of_how_many());
    fmt::print(stderr, "mirror_pairs: {} of {} pairs\n", plans.size(), pairs);
    (void)carry_out_all(plans, sum);
    MESSAGE(singles, " single faults, ", plans.size(), " of ", pairs, " pairs");
    show(sum);
}
