// SPDX-License-Identifier: BSD-3-Clause
// The engine over a standby whose disk is busy or slow: what counts as silence, and what does not.
#include <atomic>
#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

/// So that a flush on the standby is worth pieces: each of them a seek, in every region.
void write_here_and_there(MirrorPair& pair) {
    const std::uint64_t regions = 12;
    for (std::uint64_t i = 0; i < 120; ++i) {
        const std::uint64_t at = i % regions * MiB + i / regions * 64 * KiB;
        REQUIRE(
            pair.volume().write(pattern(4096, static_cast<unsigned>(i)), at, Durability::cached));
    }
}

}  // namespace

TEST_CASE("a standby whose disk works through a long flush is not silent") {
    MirrorPair pair({.peer_timeout = 1500ms, .size = 12 * MiB});
    REQUIRE(pair.wait_in_sync());
    write_here_and_there(pair);
    // A disk as slow as that: twelve times for a flush, which no single piece comes near to.
    pair.beta.disk_faults.before_write_back([] { std::this_thread::sleep_for(300ms); });
    const auto begun = std::chrono::steady_clock::now();
    CHECK(pair.volume().flush());
    CHECK(std::chrono::steady_clock::now() - begun > 2 * 1500ms);
    CHECK(pair.mode() == "in-sync");
    CHECK(pair.server().sessions() == 1);
    CHECK(content(*durable_image(pair.beta.disk), {0, 4096}) == pattern(4096, 0));
}

TEST_CASE("a standby's disk that hangs within a flush is given up, whatever it did before") {
    MirrorPair pair({.peer_timeout = 1s, .size = 12 * MiB});
    REQUIRE(pair.wait_in_sync());
    write_here_and_there(pair);
    Barrier barrier;
    std::atomic<int> pieces{0};
    std::atomic<std::chrono::steady_clock::time_point> hung_at{};
    pair.beta.disk_faults.before_write_back([&] {
        if (++pieces == 5) {
            hung_at = std::chrono::steady_clock::now();
            barrier.wait();
        }
    });
    // Others are on their way behind it.
    std::thread other([&] {
        CHECK(eventually([&] { return barrier.arrived() == 1; }));
        CHECK(pair.volume().write(pattern(4096, 7), 8 * MiB, Durability::fua));
    });
    CHECK(pair.volume().flush());
    CHECK(std::chrono::steady_clock::now() - hung_at.load() >= 900ms);
    CHECK(std::chrono::steady_clock::now() - hung_at.load() < 5s);
    CHECK(pair.mode() != "in-sync");
    other.join();
    pair.beta.disk_faults.before_write_back({});
    barrier.open();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a standby that zeroes slowly does so in pieces, and is not silent") {
    MirrorPair pair({.peer_timeout = 1500ms, .size = 24 * MiB});
    REQUIRE(pair.wait_in_sync());
    pair.beta.disk_faults.before_write([] { std::this_thread::sleep_for(600ms); });
    CHECK(pair.volume().zero({0, 24 * MiB}, Space::may_free, Durability::cached));
    CHECK(pair.mode() == "in-sync");
    CHECK(pair.server().sessions() == 1);
}

TEST_CASE("after a session that fell silent the next one begins with a probe of full size") {
    MirrorPair pair({.peer_timeout = 500ms});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.server().take_largest_request() < 64 * KiB);
    pair.server().be_silent(true);
    CHECK(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    CHECK(pair.mode() == "alone");
    // Too slow for the probe: no session begins, and no write waits.
    std::atomic<int> handshakes{0};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "handshake") {
            ++handshakes;
            std::this_thread::sleep_for(700ms);
        }
        return {};
    });
    pair.server().be_silent(false);
    const int sessions = pair.server().sessions();
    CHECK(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        CHECK(pair.volume().write(pattern(4096, 2), 4096, Durability::cached));
        return handshakes >= 2;
    }));
    CHECK(pair.server().sessions() == sessions);
    CHECK(pair.server().take_largest_request() > 900 * KiB);
    pair.server().on_request({});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a standby of an older version replicates, and its silence is silence") {
    MirrorPair pair({.peer_timeout = 1500ms, .size = 12 * MiB});
    pair.server().be_of_an_older_version();
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    write_here_and_there(pair);
    pair.beta.disk_faults.before_write_back([] { std::this_thread::sleep_for(300ms); });
    CHECK(pair.volume().flush());
    CHECK(pair.mode() != "in-sync");
    pair.beta.disk_faults.before_write_back({});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}
