// SPDX-License-Identifier: BSD-3-Clause
#include "tools/verbs.hpp"

#include <fstream>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "verb_fixture.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

struct Fixture : VerbFixture {
    void refuse(ErrorKind kind, const char* message, const char* remedy = "") {
        client.answers.emplace_back(Failure(Error{kind, message, remedy}));
    }
    void answer_state(const char* state) {
        answer(Json{{"node", "alpha"},
                    {"volumes", {{{"name", "r0"}, {"state", state}, {"why", "because"}}}}});
    }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a change prints what was done and how long it took") {
    answer(R"({"ok": true, "text": "alpha is active", "seconds": 1.5, "phases": {"engine": 0.5}})");
    CHECK(run({"promote", "r0"}) == 0);
    CHECK(out.str() == "alpha is active\ntook 1.5 s (engine 500 ms)\n");
    CHECK(client.asked.at(0) == Json{{"request", "promote"},
                                     {"volume", "r0"},
                                     {"dry_run", false},
                                     {"force", false},
                                     {"fenced", false}});
}

TEST_CASE_FIXTURE(Fixture, "a refusal says why and what would be accepted, exit 1") {
    refuse(ErrorKind::refused, "the replica on alpha is stale", "mirrorctl promote r0 --force");
    CHECK(run({"promote", "r0"}) == 1);
    CHECK(out.str().empty());
    CHECK(err.str() == "mirrorctl: the replica on alpha is stale; mirrorctl promote r0 --force\n");
}

TEST_CASE_FIXTURE(Fixture, "with --json a refusal is an object on stdout and text on stderr") {
    refuse(ErrorKind::refused, "no", "yes");
    CHECK(run({"demote", "r0", "--json"}) == 1);
    CHECK(Json::parse(out.str()) ==
          Json{{"schema", 1},
               {"ok", false},
               {"error", {{"kind", "refused"}, {"message", "no"}, {"remedy", "yes"}}}});
    CHECK(err.str() == "mirrorctl: no; yes\n");
}

TEST_CASE_FIXTURE(Fixture, "with --json a success is the daemon's answer") {
    answer(R"({"ok": true, "text": "done", "seconds": 1})");
    CHECK(run({"--json", "connect", "r0"}) == 0);
    CHECK(Json::parse(out.str()) ==
          Json{{"schema", 1}, {"ok", true}, {"text", "done"}, {"seconds", 1}});
}

TEST_CASE_FIXTURE(Fixture, "who cannot be asked is exit 3 for every verb") {
    for (const char* verb : {"status", "promote", "check", "version", "attach"}) {
        CAPTURE(verb);
        client.answers.clear();
        refuse(ErrorKind::unreachable, "mirrord of node alpha is not running",
               "start it: systemctl start mirrord");
        std::vector<const char*> words{verb};
        if (std::string(verb) == "promote" || std::string(verb) == "attach") {
            words.push_back("r0");
        }
        CHECK(run(words) == 3);
        CHECK(err.str().find("not running; start it: systemctl start mirrord") !=
              std::string::npos);
    }
}

TEST_CASE_FIXTURE(Fixture, "demote takes a volume or --all") {
    answer(R"({"text": "nothing is active on alpha", "volumes": [], "seconds": 0})");
    SUBCASE("all") {
        CHECK(run({"demote", "--all", "--disconnect-clients"}) == 0);
        CHECK(client.asked.at(0) == Json::parse(R"({"request": "demote-all", "dry_run": false,
                                                    "disconnect_clients": true})"));
    }
    SUBCASE("neither or both is a wrong command line") {
        CHECK(run({"demote"}) == 2);
        CHECK(run({"demote", "r0", "--all"}) == 2);
        CHECK(client.asked.empty());
    }
}

TEST_CASE_FIXTURE(Fixture, "a dry run prints the plan and says that nothing changed") {
    answer(R"({"would": ["stop the engine", "start it on beta"], "bytes": 2097152, "seconds": 3})");
    CHECK(run({"switch", "r0", "--to", "beta", "--dry-run"}) == 0);
    CHECK(out.str() ==
          "would: stop the engine\nwould: start it on beta\n"
          "cost:  2 MiB to transfer, about 3.0 s\nnothing was changed (--dry-run)\n");
    CHECK(client.asked.at(0)["dry_run"] == true);
    CHECK(client.asked.at(0)["to"] == "beta");
}

TEST_CASE_FIXTURE(Fixture, "resize takes a size, an addition, or nothing") {
    answer(R"({"text": "r0 has 20 GiB now", "size_bytes": 21474836480, "seconds": 1})");
    CHECK(run({"resize", "r0", "20GiB"}) == 0);
    CHECK(client.asked.at(0) == Json{{"request", "resize"},
                                     {"volume", "r0"},
                                     {"dry_run", false},
                                     {"disconnect_clients", false},
                                     {"size_bytes", 21474836480}});
    CHECK(run({"resize", "r0", "+5GiB", "--dry-run"}) == 0);
    CHECK(client.asked.at(1)["more_bytes"] == 5368709120);
    CHECK_FALSE(client.asked.at(1).contains("size_bytes"));
    CHECK(run({"resize", "r0"}) == 0);
    CHECK_FALSE(client.asked.at(2).contains("size_bytes"));
    CHECK_FALSE(client.asked.at(2).contains("more_bytes"));
    for (const char* wrong : {"much", "+", "20GB"}) {
        CHECK(run({"resize", "r0", wrong}) == 2);
    }
    CHECK(client.asked.size() == 3);
}

TEST_CASE_FIXTURE(Fixture, "a forced promotion shows the loss and wants the volume's name typed") {
    can_ask = true;
    answer(R"({"would": ["begin a new generation"], "loss": "12 MiB that only beta has"})");
    SUBCASE("another name: nothing is asked of the daemon but the plan") {
        in.str("r1\n");
        CHECK(run({"promote", "r0", "--force"}) == 1);
        CHECK(client.asked.size() == 1);
        CHECK(client.asked.at(0)["dry_run"] == true);
        CHECK(out.str().find("loss:  12 MiB that only beta has") != std::string::npos);
    }
    SUBCASE("the name: it is done") {
        in.str("r0\n");
        answer(R"({"text": "alpha is active"})");
        CHECK(run({"promote", "r0", "--force"}) == 0);
        REQUIRE(client.asked.size() == 2);
        CHECK(client.asked.at(1)["dry_run"] == false);
        CHECK(client.asked.at(1)["force"] == true);
    }
    SUBCASE("--yes: no question") {
        CHECK(run({"promote", "r0", "--force", "--yes"}) == 0);
        CHECK(client.asked.size() == 1);
        CHECK(client.asked.at(0)["dry_run"] == false);
    }
    SUBCASE("nobody there to ask: refused, with the loss and the command that says yes") {
        can_ask = false;
        CHECK(run({"promote", "r0", "--force"}) == 1);
        REQUIRE(client.asked.size() == 1);
        CHECK(client.asked.at(0)["dry_run"] == true);
        CHECK(err.str().find("12 MiB that only beta has") != std::string::npos);
        CHECK(err.str().find("mirrorctl promote r0 --force --yes") != std::string::npos);
    }
    SUBCASE("a program that reads JSON is nobody to ask, either") {
        CHECK(run({"promote", "r0", "--force", "--json"}) == 1);
        CHECK(client.asked.size() == 1);
    }
}

TEST_CASE_FIXTURE(Fixture, "a forced promotion that loses nothing needs no question") {
    can_ask = true;
    answer(R"({"would": ["serve clients on alpha"], "loss": ""})");
    answer(R"({"text": "alpha is active"})");
    SUBCASE("of a person") {}
    SUBCASE("of a pipe") {
        can_ask = false;
    }
    CHECK(run({"promote", "r0", "--force"}) == 0);
    CHECK(client.asked.size() == 2);
}

TEST_CASE_FIXTURE(Fixture, "overwriting a peer's data is asked for in the same way") {
    can_ask = true;
    in.str("\n");
    answer(R"({"would": ["overwrite /srv/r0.img on beta"]})");
    CHECK(run({"create", "r0", "--overwrite-peer"}) == 1);
    CHECK(client.asked.size() == 1);
    CHECK(out.str().find("would: overwrite /srv/r0.img on beta") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "every verb that loses data wants --yes where nobody can be asked") {
    answer(R"({"would": ["overwrite it"], "loss": "4 KiB in /srv/r0.img on beta"})");
    CHECK(run({"create", "r0", "--overwrite-peer", "--accept-mode"}) == 1);
    CHECK(run({"create", "r0", "--replace"}) == 1);
    CHECK(client.asked.size() == 2);
    CHECK(client.asked.at(1)["dry_run"] == true);
    CHECK(err.str().find("mirrorctl create r0 --overwrite-peer --accept-mode --yes") !=
          std::string::npos);
    CHECK(err.str().find("mirrorctl create r0 --replace --yes") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "a plan that transfers nothing says so") {
    answer(R"({"would": ["make the replica on beta"], "bytes": 0, "seconds": null, "loss": ""})");
    CHECK(run({"create", "r0", "--dry-run"}) == 0);
    CHECK(out.str().find("cost:  nothing to transfer") != std::string::npos);
}

TEST_CASE("a daemon that cannot be asked is named, with its socket and how to start it") {
    const test::TempDir dir;
    NodeConfig node;
    node.name = "alpha";
    node.run_dir = dir.path();
    DaemonClient client(node, "");
    const auto answer = client.ask({{"request", "version"}}, std::chrono::seconds(5));
    REQUIRE_FALSE(answer);
    CHECK(answer.error().kind == ErrorKind::unreachable);
    CHECK(answer.error().text() == "mirrord of node alpha is not running (" + dir.path() +
                                       "/mirrord.sock: No such file or directory); start it: "
                                       "systemctl start mirrord");
}

TEST_CASE_FIXTURE(Fixture, "status exits by the state, and 3 when the volume is not known") {
    answer_state("diverged");
    CHECK(run({"status"}) == 2);
    client.answers.clear();
    refuse(ErrorKind::not_found, "no volume is named 'x'");
    CHECK(run({"status", "x"}) == 3);
}

TEST_CASE_FIXTURE(Fixture, "wait looks until the state is there, through a daemon's restart") {
    answer_state("broken");
    refuse(ErrorKind::unreachable, "mirrord of node alpha is not running");
    answer_state("resyncing");
    answer_state("in-sync");
    CHECK(run({"wait", "r0", "--for", "in-sync", "--timeout", "10"}) == 0);
    CHECK(out.str() ==
          "r0: broken: because\nmirrord of node alpha is not running\n"
          "r0: resyncing: because\nr0: in-sync: because\n");
}

TEST_CASE_FIXTURE(Fixture,
                  "wait gives up after its timeout: 1 when the state is another, 3 when unknown") {
    answer_state("broken");
    CHECK(run({"wait", "r0", "--for", "in-sync", "--timeout", "2"}) == 1);
    CHECK(err.str() ==
          "mirrorctl: volume r0 did not become in-sync in 2.0 s: it is broken: because\n");
    client.answers.clear();
    refuse(ErrorKind::unreachable, "gone");
    CHECK(run({"wait", "r0", "--for", "in-sync", "--timeout", "2"}) == 3);
}

TEST_CASE_FIXTURE(Fixture, "wait draws over its line on a terminal") {
    terminal.is_tty = true;
    answer_state("broken");
    answer_state("in-sync");
    CHECK(run({"wait", "r0", "--for", "in-sync"}) == 0);
    CHECK(out.str() == "\rr0: broken because\x1b[K\rr0: in-sync because\x1b[K\n");
}

TEST_CASE_FIXTURE(Fixture,
                  "resync --wait ends in sync, or at once where that cannot come by itself") {
    answer(R"({"text": "the resync has started"})");
    answer_state("resyncing");
    SUBCASE("in sync") {
        answer_state("in-sync");
        CHECK(run({"resync", "r0", "--wait"}) == 0);
    }
    SUBCASE("diverged") {
        answer_state("diverged");
        CHECK(run({"resync", "r0", "--wait"}) == 1);
    }
    SUBCASE("what can't be read is tried again, once") {
        Json volume{{"name", "r0"}, {"state", "broken"}, {"why", "because"}};
        volume["peers"] = {{{"incomplete", Json::object()}, {"resync", Json::object()}}};
        answer(Json{{"node", "alpha"}, {"volumes", {volume}}});
        volume["peers"][0]["resync"] = nullptr;
        answer(Json{{"node", "alpha"}, {"volumes", {volume}}});
        CHECK(run({"resync", "r0", "--wait"}) == 1);
        CHECK(client.asked.size() == 4);
    }
    SUBCASE("--dry-run does not wait") {
        CHECK(run({"resync", "r0", "--wait", "--dry-run"}) == 0);
        CHECK(client.asked.size() == 1);
    }
}

TEST_CASE_FIXTURE(
    Fixture, "watching in a pipe prints changes with their time, and goes on without the daemon") {
    pauses_left = 3;
    answer_state("in-sync");
    answer_state("in-sync");
    refuse(ErrorKind::unreachable, "gone");
    answer_state("broken");
    CHECK(run({"status", "--watch"}) == 1);
    CHECK(out.str() ==
          "2026-03-01T12:33:05.000Z r0: in-sync: because\n"
          "2026-03-01T12:33:07.000Z gone\n"
          "2026-03-01T12:33:08.000Z r0: broken: because\n");
}

TEST_CASE_FIXTURE(Fixture, "events are read from the node's file, also without a daemon") {
    std::ofstream(dir.path() + "/events.jsonl")
        << R"({"time":"2026-03-01T12:00:00Z","volume":"r0","id":"promoted","severity":"info","text":"x"})"
        << "\nnot json\n"
        << R"({"time":"2026-03-01T12:30:00Z","volume":"r1","id":"demoted","severity":"info","text":"y"})"
        << '\n';
    CHECK(run({"events"}) == 0);
    CHECK(out.str() ==
          "2026-03-01 12:00:00  info     r0  promoted  x\n"
          "2026-03-01 12:30:00  info     r1  demoted  y\n");
    CHECK(err.str().find("not JSON: not json") != std::string::npos);
    out.str("");
    CHECK(run({"events", "r1", "--since", "10min", "--json"}) == 0);
    CHECK(Json::parse(out.str())["id"] == "demoted");
    CHECK(run({"events", "--since", "yesterday"}) == 2);
    CHECK(run({"events", "nosuch"}) == 2);
    CHECK(err.str().find("there is no volume nosuch") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture,
                  "check tells how well a peer's clock is known, where the answer took long") {
    answer(R"({"problems": [], "nodes": [
        {"node": "beta", "address": "10.0.0.2:10809", "reachable": true, "version": "0.1.0",
         "clock_skew_seconds": -1.6, "clock_uncertainty_seconds": 1.7, "same_config": true,
         "message": "answers, same settings"}]})");
    CHECK(run({"check"}) == 0);
    CHECK(out.str().find("  -1.6 s (+-1.7)  ") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "check shows both nodes, and its code says whether they are fit") {
    answer(R"({"problems": ["beta cannot be reached"], "nodes": [
        {"node": "alpha", "address": "10.0.0.1:10809", "reachable": true, "version": "0.1.0",
         "clock_skew_seconds": 0, "same_config": true, "message": ""},
        {"node": "beta", "address": "10.0.0.2:10809", "reachable": false, "version": null,
         "clock_skew_seconds": null, "same_config": null, "message": "Connection refused"}]})");
    CHECK(run({"check"}) == 1);
    CHECK(out.str() ==
          "configuration /etc/mirrordisk/mirrordisk.toml: no mistakes\n"
          "NODE   ADDRESS         REACHABLE  VERSION  CLOCK   SAME CONFIG\n"
          "alpha  10.0.0.1:10809  yes        0.1.0    +0.0 s  yes\n"
          "beta   10.0.0.2:10809  no         -        -       -            Connection refused\n"
          "problem: beta cannot be reached\n");
}

TEST_CASE_FIXTURE(Fixture, "the command line: what is wrong is exit 2, help and version are 0") {
    CHECK(run({}) == 2);
    CHECK(run({"explode"}) == 2);
    CHECK(run({"promote"}) == 2);
    CHECK(run({"status", "r0", "--loud"}) == 2);
    CHECK(run({"wait", "r0"}) == 2);
    CHECK(run({"wait", "r0", "--for", "lunch"}) == 2);
    CHECK(run({"wait", "r0", "--for", "in-sync", "--timeout", "-1"}) == 2);
    CHECK(run({"resolve", "r0"}) == 2);
    CHECK(client.asked.empty());
    CHECK(run({"--help"}) == 0);
    CHECK(run({"promote", "--help"}) == 0);
    CHECK(run({"--version"}) == 0);
}
