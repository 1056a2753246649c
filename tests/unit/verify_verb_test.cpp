// SPDX-License-Identifier: BSD-3-Clause
// `mirrorctl verify` against a daemon's canned answers.
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "tools/verify_view.hpp"
#include "verb_fixture.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

const char* const this_run = "2026-03-01T12:00:00.000Z";

Json verify_in(const char* state, std::uint64_t done, std::uint64_t mismatched = 0,
               std::uint64_t repaired = 0) {
    Json ranges = Json::array();
    if (mismatched > repaired) {
        ranges.push_back({{"offset", 8192},
                          {"length", mismatched - repaired},
                          {"unreadable", false},
                          {"repaired", false}});
    }
    return {{"state", state},
            {"started_at", this_run},
            {"done_bytes", done},
            {"total_bytes", 1 << 20},
            {"bytes_per_second", 1 << 16},
            {"eta_seconds", 5},
            {"waits_for", nullptr},
            {"mismatched_bytes", mismatched},
            {"repaired_bytes", repaired},
            {"ranges", ranges},
            {"unlisted_ranges", 0},
            {"last_finished", "2026-03-01T12:03:00Z"},
            {"last_mismatched_bytes", mismatched},
            {"last_repaired_bytes", repaired}};
}

Json volume_in(const char* name, const char* state, const Json& verify) {
    return {{"name", name},
            {"role", "active"},
            {"state", state},
            {"why", "because"},
            {"peers", {{{"node", "beta"}, {"verify", verify}}}}};
}

struct Fixture : VerbFixture {
    int run(std::vector<const char*> words) {
        words.insert(words.begin(), "verify");
        return VerbFixture::run(std::move(words));
    }
    void begun() { answer(Json{{"text", "begun"}, {"verify", {{"started_at", this_run}}}}); }
    void status(std::vector<Json> volumes) {
        answer(Json{{"node", "alpha"}, {"volumes", std::move(volumes)}});
    }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "verify asks for what was typed") {
    begun();
    CHECK(run({"r0", "--repair", "--rate", "5MiB", "--restart"}) == 0);
    CHECK(client.asked.at(0) == Json{{"request", "verify"},
                                     {"volume", "r0"},
                                     {"dry_run", false},
                                     {"repair", true},
                                     {"stop", false},
                                     {"restart", true},
                                     {"rate", 5 << 20}});
    CHECK(out.str() == "begun\n");
}

TEST_CASE_FIXTURE(Fixture, "--wait shows each tenth and exits by what is left") {
    begun();
    // The record of an earlier run, as a standby may have it for a moment, ends nothing.
    Json earlier = verify_in("finished", 1 << 20);
    earlier["started_at"] = "2026-02-01T12:00:00.000Z";
    status({volume_in("r0", "in-sync", earlier)});
    status({volume_in("r0", "in-sync", verify_in("running", 1 << 19))});
    client.answers.emplace_back(fail(ErrorKind::unreachable, "mirrord is not running"));
    int code = 0;
    const char* words = "";
    SUBCASE("equal") {
        status({volume_in("r0", "in-sync", verify_in("finished", 1 << 20))});
        words = "r0: all 1 MiB are equal on both nodes\n";
    }
    SUBCASE("repaired") {
        status({volume_in("r0", "in-sync", verify_in("finished", 1 << 20, 4096, 4096))});
        words = "r0: of 1 MiB, 4 KiB differed and were repaired\n";
    }
    SUBCASE("different") {
        status({volume_in("r0", "in-sync", verify_in("finished", 1 << 20, 8192, 4096))});
        code = 1;
        words =
            "r0: of 1 MiB, 4 KiB differ, 4 KiB were repaired\n"
            "  4 KiB at offset 8192\n"
            "r0: to copy the active node's blocks to the standby: mirrorctl verify r0 --repair; if "
            "the active node's disk is the bad one, switch first\n";
    }
    SUBCASE("stopped") {
        status({volume_in("r0", "in-sync", verify_in("stopped", 1 << 19))});
        code = 1;
        words = "r0: the comparison was stopped at 50 %\n";
    }
    CHECK(run({"r0", "--wait"}) == code);
    CHECK(out.str() == std::string("begun\nr0: 50 %, 512 KiB of 1 MiB, 64 KiB/s, 5.0 s left\n"
                                   "mirrord is not running\n") +
                           words);
}

TEST_CASE_FIXTURE(Fixture, "--wait draws a bar on a terminal, and one JSON document with --json") {
    begun();
    status({volume_in("r0", "in-sync", verify_in("running", 1 << 19))});
    status({volume_in("r0", "in-sync", verify_in("finished", 1 << 20, 4096))});
    SUBCASE("terminal") {
        terminal = {.is_tty = true, .colour = false, .width = 80};
        CHECK(run({"r0", "--wait"}) == 1);
        CHECK(out.str().find("\rr0: [=====") != std::string::npos);
        CHECK(out.str().find("5.0 s left\x1b[K\nr0: of 1 MiB") != std::string::npos);
    }
    SUBCASE("json") {
        CHECK(run({"r0", "--wait", "--json"}) == 1);
        CHECK(Json::parse(out.str())["verify"]["mismatched_bytes"] == 4096);
    }
}

TEST_CASE_FIXTURE(Fixture, "--wait ends where the comparison cannot go on by itself") {
    begun();
    status({volume_in("r0", "diverged", verify_in("running", 1 << 19))});
    CHECK(run({"r0", "--wait"}) == 1);
    CHECK(err.str() == "mirrorctl: r0 can no longer be compared: it is diverged: because\n");
}

TEST_CASE_FIXTURE(Fixture, "--dry-run tells the cost") {
    answer(Json{{"would", {"compare 1 GiB"}}, {"bytes", 1 << 30}, {"seconds", 16}});
    CHECK(run({"r0", "--dry-run", "--wait"}) == 0);
    CHECK(out.str() ==
          "would: compare 1 GiB\ncost:  1 GiB to read on each node, about 16 s\n"
          "nothing was changed (--dry-run)\n");
}

TEST_CASE_FIXTURE(Fixture, "--all verifies what is active here and in sync, one after the other") {
    Json standby = volume_in("r3", "in-sync", verify_in("never", 0));
    standby["role"] = "standby";
    status({volume_in("r0", "in-sync", verify_in("never", 0)),
            volume_in("r1", "broken", verify_in("never", 0)),
            volume_in("r2", "in-sync", verify_in("never", 0)), standby});
    begun();
    status({volume_in("r0", "in-sync", verify_in("finished", 1 << 20, 4096))});
    begun();
    status({volume_in("r2", "in-sync", verify_in("finished", 1 << 20))});
    CHECK(run({"--all", "--wait"}) == 1);
    CHECK(client.asked.at(1)["volume"] == "r0");
    CHECK(client.asked.at(3)["volume"] == "r2");
    CHECK(client.asked.size() == 5);
    CHECK(out.str().find("r1: left out: it is broken: because\n") != std::string::npos);
    CHECK(out.str().find("r2: all 1 MiB are equal on both nodes\n") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture,
                  "--all goes on after a refusal, and does nothing where nothing is active") {
    SUBCASE("a refusal") {
        status({volume_in("r0", "in-sync", verify_in("never", 0)),
                volume_in("r1", "in-sync", verify_in("never", 0))});
        client.answers.emplace_back(fail(ErrorKind::refused, "no"));
        begun();
        CHECK(run({"--all"}) == 1);
        CHECK(err.str() == "mirrorctl: r0: no\n");
    }
    SUBCASE("nothing") {
        status({});
        CHECK(run({"--all"}) == 0);
    }
    SUBCASE("json") {
        status({volume_in("r0", "in-sync", verify_in("never", 0))});
        begun();
        CHECK(run({"--all", "--json"}) == 0);
        CHECK(Json::parse(out.str())["volumes"][0]["text"] == "begun");
    }
}

TEST_CASE_FIXTURE(Fixture, "what makes no sense is exit 2 and asks nobody") {
    CHECK(run({}) == 2);
    CHECK(run({"r0", "--all"}) == 2);
    CHECK(run({"r0", "--stop", "--repair"}) == 2);
    CHECK(run({"r0", "--rate", "fast"}) == 2);
    CHECK(client.asked.empty());
}

TEST_CASE("the status shows the last result, its age, and how far a comparison is") {
    const WallTime now = parse_rfc3339("2026-03-01T12:04:00Z").value();
    const auto words = [&](const Json& verify) { return verify_words(verify, "r0", now); };
    CHECK(words({{"state", "never"}}) == "never");
    CHECK(words({{"state", "new-word"}}) == "unknown");
    CHECK(words(verify_in("running", 1 << 19)) == "50 %, 512 KiB of 1 MiB, 64 KiB/s, 5.0 s left");
    Json waiting = verify_in("running", 1 << 19, 4096);
    waiting["waits_for"] = "beta is gone";
    CHECK(words(waiting) == "50 %, 4 KiB differ; waits: beta is gone");
    CHECK(words(verify_in("finished", 1 << 20)).find("(1 min ago): equal") != std::string::npos);
    CHECK(words(verify_in("finished", 1 << 20, 4096)).find("4 KiB differ; which node's disk") !=
          std::string::npos);
    CHECK(words(verify_in("stopped", 1 << 19)).find("stopped at 50 %") == 0);
}
