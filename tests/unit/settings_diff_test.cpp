// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/settings_diff.hpp"

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "daemon/endpoint.hpp"
#include "daemon/peer_answer.hpp"

using namespace mirror;
using namespace mirror::daemon;

TEST_CASE("settings that differ are named with both values") {
    const Settings ours = {{"mode", "sync"}, {"peer_timeout", "5s"}};
    const Settings theirs = {{"mode", "sync"}, {"peer_timeout", "10s"}, {"size", "1 GiB"}};
    const auto result = require_same_settings("r0", "alpha", ours, "beta", theirs);
    REQUIRE(!result);
    CHECK(result.error().message ==
          "alpha and beta have different configs for volume r0: peer_timeout is 5s on alpha and "
          "10s on beta; size is not set on alpha and 1 GiB on beta");
    CHECK(require_same_settings("r0", "alpha", ours, "beta", ours));
    CHECK(once_made(theirs) == Settings{{"mode", "sync"}, {"peer_timeout", "10s"}});
}

TEST_CASE("where the configurations are the same it is the engine that was started with others") {
    const Settings ours = {{"mode", "sync"}, {"peer_timeout", "5s"}};
    const Settings engines = {{"mode", "sync"}, {"peer_timeout", "10s"}};
    const auto result = require_current_engine("r0", "beta", ours, "alpha", engines);
    REQUIRE(!result);
    CHECK(result.error().message ==
          "the engine of r0 on alpha was started with other settings than both nodes have now: "
          "peer_timeout is 5s on beta and 10s on that engine");
    CHECK(result.error().remedy.find("on alpha: mirrorctl restart-engine r0") != std::string::npos);
    CHECK(require_current_engine("r0", "beta", ours, "alpha", ours));
}

TEST_CASE("settings from a peer must be strings") {
    CHECK(settings_from_json({{"mode", "sync"}}));
    CHECK(!settings_from_json({{"mode", 1}}));
    CHECK(!settings_from_json("mode"));
}

TEST_CASE("a peer's status with missing or wrong fields is an error") {
    Json answer = {{"node", "beta"},
                   {"version", "0.1.0"},
                   {"protocol", 1},
                   {"time", "2026-03-01T12:30:05.250Z"},
                   {"settings", {{"r0", {{"mode", "sync"}}}}},
                   {"volumes", Json::object()}};
    const auto parsed = parse_peer_answer(answer);
    REQUIRE(parsed);
    CHECK(parsed->node == "beta");
    CHECK(parsed->settings.at("r0").at("mode") == "sync");
    for (const char* field : {"node", "version", "protocol", "time", "settings", "volumes"}) {
        Json cut = answer;
        cut.erase(field);
        CHECK_FALSE(parse_peer_answer(cut));
        cut[field] = Json::array({1});
        CHECK_FALSE(parse_peer_answer(cut));
    }
    answer["volumes"]["r0"] = {{"role", "active"}};
    CHECK_FALSE(parse_peer_answer(answer));
    CHECK_FALSE(parse_peer_answer(nullptr));
}

TEST_CASE("an address to bind may be any address, but needs a port") {
    CHECK(parse_endpoint("0.0.0.0:10809")->port == 10809);
    CHECK(parse_endpoint("[::]:10809")->host == "::");
    for (const char* wrong :
         {"", "host", ":1", "host:", "host:0", "host:99999", "::1", "host:1x"}) {
        CHECK_FALSE(parse_endpoint(wrong));
    }
}
