// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/pacer.hpp"

#include <doctest/doctest.h>

#include "core/base/units.hpp"

using namespace mirror;
using namespace std::chrono_literals;

namespace {

const SteadyTime start = SteadyTime{} + 1h;

/// Work on pieces of a MiB that take `each` is done for so long; how much that was.
std::uint64_t worked_in(Pacer& pacer, std::chrono::milliseconds most,
                        std::chrono::milliseconds each) {
    std::uint64_t bytes = 0;
    for (SteadyTime now = start; now < start + most; bytes += MiB) {
        now += each;
        now += pacer.rest_after(MiB, now - each, now);
    }
    return bytes;
}

}  // namespace

TEST_CASE("a rate is kept to, however long the pieces take") {
    for (const auto each : {0ms, 1ms, 50ms, 90ms}) {
        CAPTURE(each.count());
        Pacer pacer;
        pacer.set_rate(10 * MiB);
        const std::uint64_t bytes = worked_in(pacer, 10s, each);
        CHECK(bytes >= 99 * MiB);
        CHECK(bytes <= 101 * MiB);
    }
}

TEST_CASE("without a rate there is no rest while nobody is in the way") {
    Pacer pacer;
    for (SteadyTime now = start; now < start + 1s; now += 5ms) {
        CHECK(pacer.rest_after(MiB, now, now + 5ms) == 0ms);
    }
}

TEST_CASE("a piece that takes much longer than others is followed by a rest as long") {
    Pacer pacer;
    CHECK(pacer.rest_after(MiB, start, start + 5ms) == 0ms);
    CHECK(pacer.rest_after(MiB, start, start + 8ms) == 0ms);
    CHECK(pacer.rest_after(MiB, start, start + 40ms) == 40ms);
    CHECK(pacer.rest_after(MiB, start, start + 10s) == Pacer::longest_courtesy);
    CHECK(pacer.rest_after(MiB, start, start + 5ms) == 0ms);
}

TEST_CASE("what is slow for good is not taken for a disturbance for ever") {
    Pacer pacer;
    CHECK(pacer.rest_after(MiB, start, start + 1ms) == 0ms);
    int rests = 0;
    while (pacer.rest_after(MiB, start, start + 10ms) != 0ms) {
        ++rests;
        REQUIRE(rests < 1000);
    }
    CHECK(rests > 10);
}

TEST_CASE("time without work is not made up for by a burst") {
    Pacer pacer;
    pacer.set_rate(MiB);
    CHECK(pacer.rest_after(MiB, start, start) == 1s);
    CHECK(pacer.rest_after(MiB, start + 1h, start + 1h) == 1s);
}

TEST_CASE("holes cost nothing") {
    Pacer pacer;
    pacer.set_rate(1);
    CHECK(pacer.rest_after(0, start, start + 1s) == 0ms);
}
