// SPDX-License-Identifier: BSD-3-Clause
// mirrord was restarted with another configuration, and tells an engine that runs.
#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/config/engine_settings.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;
using control::Json;

namespace {

Config with_timeout(const MirrorPair& pair, std::chrono::milliseconds timeout) {
    Config config = pair.config();
    config.volumes.at("r0").peer_timeout = timeout;
    return config;
}

Config with_port(const MirrorPair& pair, std::uint16_t port) {
    Config config = pair.config();
    config.nodes.at("beta").address.port = port;
    config.volumes.at("r0").address.at("beta").port = port;
    return config;
}

Config with_loss(const MirrorPair& pair, OnPeerLoss choice) {
    Config config = pair.config();
    config.volumes.at("r0").on_peer_loss = choice;
    return config;
}

Json tell(MirrorPair& pair, const Config& config) {
    return pair.ask(
        {{"request", "settings"}, {"config", engine_config(config, config.volumes.at("r0"))}});
}

bool is_outdated(MirrorPair& pair) {
    return pair.status()["peer"]["session_outdated"] == true;
}

}  // namespace

TEST_CASE("a session goes on as it began, and the next one has the new settings") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const int before = pair.server().sessions();
    const Json told = tell(pair, with_timeout(pair, 30s));
    CHECK(told["changed"] == Json{{"peer_timeout", Json::array({"60000ms", "30000ms"})}});
    CHECK(pair.status()["settings"]["peer_timeout"] == "30000ms");
    CHECK(is_outdated(pair));
    CHECK(pair.mode() == "in-sync");
    CHECK(pair.server().sessions() == before);
    CHECK(tell(pair, with_timeout(pair, 30s))["changed"].empty());

    std::ignore = pair.ask({{"request", "renew-session"}});
    CHECK(eventually([&] { return pair.server().sessions() == before + 1; }));
    CHECK(eventually([&] { return pair.mode() == "in-sync" && !is_outdated(pair); }));
}

TEST_CASE("while a session is renewed nothing is answered on one replica alone") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const auto generation = superblock_on(pair.alpha.meta).lineage.current();
    std::atomic<bool> done{false};
    std::atomic<unsigned> written{0};
    std::thread writer([&] {
        for (unsigned turn = 0; !done; ++turn) {
            if (pair.volume().write(pattern(4096, turn), (turn % 200) * 4096, Durability::cached)) {
                ++written;
            }
        }
    });
    for (int turn = 1; turn <= 8; ++turn) {
        const int sessions = pair.server().sessions();
        const unsigned so_far = written;
        CHECK(eventually([&] { return written > so_far; }));
        std::ignore = tell(pair, with_timeout(pair, std::chrono::seconds(60 + turn)));
        std::ignore = pair.ask({{"request", "renew-session"}});
        CHECK(eventually([&] { return pair.server().sessions() > sessions; }));
        CHECK(eventually([&] { return pair.mode() == "in-sync" && !is_outdated(pair); }));
    }
    done = true;
    writer.join();
    CHECK(superblock_on(pair.alpha.meta).lineage.current() == generation);
    CHECK_FALSE(superblock_on(pair.alpha.meta).solo);
    REQUIRE(pair.volume().flush());
    CHECK(pair.equal());
}

TEST_CASE("a session that began with the settings of now is not ended") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const int before = pair.server().sessions();
    std::ignore = pair.ask({{"request", "renew-session"}});
    // An order that is carried out after it: had the session been ended, this would have met that.
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::fua));
    std::ignore = tell(pair, with_timeout(pair, 30s));
    std::ignore = pair.ask({{"request", "renew-session"}});
    CHECK(eventually([&] { return pair.mode() == "in-sync" && !is_outdated(pair); }));
    CHECK(pair.server().sessions() == before + 1);
}

TEST_CASE("the peer is looked for where it is said to be") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    std::ignore = tell(pair, with_port(pair, 2));  // where nobody listens
    std::ignore = pair.ask({{"request", "renew-session"}});
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    std::ignore = tell(pair, pair.config());
    CHECK(pair.wait_in_sync());
    REQUIRE(pair.volume().flush());
    CHECK(pair.equal());
}

TEST_CASE("a write that waits for the peer goes on when on_peer_loss says so") {
    MirrorPair pair({.on_peer_loss = OnPeerLoss::stop});
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    std::atomic<bool> answered{false};
    std::thread writer([&] {
        answered = pair.volume().write(pattern(4096, 1), 0, Durability::cached).has_value();
    });
    std::thread flusher([&] { std::ignore = pair.volume().flush(); });
    std::ignore = tell(pair, with_loss(pair, OnPeerLoss::continue_alone));
    writer.join();
    flusher.join();
    CHECK(answered);
    CHECK(superblock_on(pair.alpha.meta).solo);  // and that is on record, durably
    pair.restore();
    CHECK(pair.wait_in_sync());
    REQUIRE(pair.volume().flush());
    CHECK(pair.equal());
}

TEST_CASE("a write in flight at the break goes on when on_peer_loss says so") {
    MirrorPair pair({.on_peer_loss = OnPeerLoss::stop});
    REQUIRE(pair.wait_in_sync());
    Barrier barrier;
    pair.beta.disk_faults.before_write([&] { barrier.wait(); });
    std::atomic<bool> answered{false};
    std::thread writer([&] {
        answered = pair.volume().write(pattern(4096, 1), 0, Durability::cached).has_value();
    });
    CHECK(eventually([&] { return barrier.arrived() == 1; }));
    pair.server().sever();
    REQUIRE(pair.wait_alone());
    CHECK_FALSE(answered);
    std::ignore = tell(pair, with_loss(pair, OnPeerLoss::continue_alone));
    writer.join();
    CHECK(answered);
    barrier.open();
    CHECK(superblock_on(pair.alpha.meta).solo);
}

TEST_CASE("from on_peer_loss = stop on, nothing is answered alone") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    pair.cut();
    REQUIRE(pair.wait_alone());
    std::ignore = tell(pair, with_loss(pair, OnPeerLoss::stop));
    std::atomic<bool> answered{false};
    std::thread writer([&] {
        CHECK(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
        answered = true;
    });
    pair.restore();
    CHECK(pair.wait_in_sync());
    writer.join();
    CHECK(answered);
    CHECK_FALSE(superblock_on(pair.alpha.meta).solo);
}

TEST_CASE("settings that make no sense are refused as a whole") {
    MirrorPair pair;
    const Json before = pair.status()["settings"];
    Config other = pair.config();
    other.volumes["r1"] = other.volumes.at("r0");
    other.volumes["r1"].name = "r1";
    const Json requests[] = {
        {{"request", "settings"}},
        {{"request", "settings"}, {"config", 1}},
        {{"request", "settings"}, {"config", "size = = 1"}},
        {{"request", "settings"}, {"config", std::string(100000, '#')}},
        {{"request", "settings"}, {"config", engine_config(other, other.volumes.at("r1"))}},
    };
    for (const Json& request : requests) {
        CHECK_FALSE(pair.volume().handle(request));
        CHECK(pair.status()["settings"] == before);
    }
}
