// SPDX-License-Identifier: BSD-3-Clause
// For the tests of mirrorctl's verbs: runs a command line against a daemon's canned answers, at a
// time that does not pass by itself. One thread.
#pragma once

#include <cstdlib>
#include <deque>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "temp_dir.hpp"
#include "tools/command_line.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {

/// Answers from a list; the last one again and again. Remembers what was asked.
class FakeClient : public Client {
  public:
    std::deque<Result<Json>> answers;
    std::vector<Json> asked;

    Result<Json> ask(const Json& request, std::chrono::milliseconds) override {
        asked.push_back(request);
        REQUIRE_FALSE(answers.empty());
        Result<Json> answer = answers.front();
        if (answers.size() > 1) {
            answers.pop_front();
        }
        return answer;
    }
};

/// Goes on by what is waited.
class FakeClock : public Clock {
  public:
    std::chrono::milliseconds passed{0};

    WallTime wall_now() const override {
        return parse_rfc3339("2026-03-01T12:33:05Z").value() + passed;
    }
    SteadyTime steady_now() const override { return SteadyTime{} + passed; }
};

struct VerbFixture {
    test::TempDir dir;  ///< the node's state_dir
    FakeClient client;
    FakeClock clock;
    Terminal terminal;
    std::string node = "alpha";
    bool can_ask = false;
    int pauses_left = 1000;  ///< a loop that waits more often is ended
    std::ostringstream out;
    std::ostringstream err;
    std::istringstream in;

    /// Runs mirrorctl with these words, against the canned answers.
    int run(std::vector<const char*> words) {
        ::setenv("TZ", "UTC", 1);
        words.insert(words.begin(), "mirrorctl");
        const auto parsed =
            parse_command_line(static_cast<int>(words.size()), words.data(), out, err);
        if (const int* code = std::get_if<int>(&parsed)) {
            return *code;
        }
        World world{.out = out,
                    .err = err,
                    .in = in,
                    .terminal = terminal,
                    .can_ask = can_ask,
                    .clock = clock,
                    .pause = [this](std::chrono::milliseconds time) {
                        clock.passed += time;
                        return pauses_left-- > 0;
                    }};
        Config cluster;
        cluster.tls.psk_file = dir.path() + "/cluster.psk";
        NodeConfig& config = cluster.nodes[node];
        config.name = node;
        config.state_dir = dir.path();
        const std::string path = "/etc/mirrordisk/mirrordisk.toml";
        Session session{std::get<Options>(parsed), cluster, config, path, client, world};
        return run_verb(session);
    }

    void answer(Json json) { client.answers.emplace_back(std::move(json)); }
    void answer(const char* json) { answer(Json::parse(json)); }
};

}  // namespace mirror::tools
