// SPDX-License-Identifier: BSD-3-Clause
#include "tools/monitor_line.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "tools/verdict.hpp"
#include "verb_fixture.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

Json volume(const std::string& name = "r0") {
    return {{"name", name},
            {"role", "active"},
            {"state", "in-sync"},
            {"why", "both have every write"},
            {"replica", {{"media_errors", 2}}},
            {"rpo", {{"seconds", 0}, {"bytes", 0}}},
            {"peers",
             {{{"node", "beta"},
               {"role", "standby"},
               {"behind_bytes", 0},
               {"resync", nullptr},
               {"verify", {{"state", "never"}, {"unrepaired_bytes", 0}}}}}}};
}

Json broken() {
    Json broken = volume();
    broken["state"] = "broken";
    broken["why"] = "no connection to beta";
    broken["rpo"] = {{"seconds", 42.5}, {"bytes", 8 << 20}};
    broken["peers"][0]["behind_bytes"] = 8 << 20;
    return broken;
}

Json status_of(const std::vector<Json>& volumes) {
    return {{"node", "alpha"}, {"volumes", volumes}};
}

Result<Json> no_problems() {
    return Json{{"problems", Json::array()}, {"volume_problems", Json::array()}};
}

Result<Json> silence() {
    return fail(ErrorKind::timed_out, "no answer");
}

bool has(const MonitorLine& line, const std::string& part) {
    return line.text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a healthy volume is OK, with its figures") {
    const MonitorLine line = monitor_line(status_of({volume()}), no_problems());
    CHECK(line.code == 0);
    CHECK(line.text ==
          "MIRRORDISK OK - r0 in-sync, active on alpha | 'r0_behind'=0B;;;0 'r0_rpo'=0s;;;0 "
          "'r0_media_errors'=2c;;;0 'r0_verify_differs'=0B;;;0 'r0_resync'=100%;;;0;100");
    CHECK(has(monitor_line(status_of({volume(), volume("r1")}), no_problems()),
              "OK - 2 volumes in-sync |"));
}

TEST_CASE("one copy left is a warning that says why, and how much is missing") {
    const MonitorLine line = monitor_line(status_of({broken()}), no_problems());
    CHECK(line.code == 1);
    CHECK(has(line,
              "MIRRORDISK WARNING - r0 broken: no connection to beta | "
              "'r0_behind'=8388608B;;;0 'r0_rpo'=42.5s;;;0 "));
    CHECK(has(line, "'r0_resync'=U;;;0;100"));
    Json resyncing = broken();
    resyncing["state"] = "resyncing";
    resyncing["peers"][0]["resync"] = {{"done_bytes", 45}, {"total_bytes", 100}};
    CHECK(has(monitor_line(status_of({resyncing}), no_problems()), "'r0_resync'=45%;;;0;100"));
}

TEST_CASE("the worst comes first, and what holds beside a state is named") {
    Json held = broken();
    held["name"] = "r1";
    held["holds_writes"] = true;
    const MonitorLine line = monitor_line(status_of({broken(), held}), no_problems());
    CHECK(line.code == 2);
    CHECK(has(line, "CRITICAL - r1 broken, writes are held: no connection to beta; r0 broken: "));
    Json differing = volume();
    differing["peers"][0]["verify"]["unrepaired_bytes"] = 4096;
    CHECK(has(monitor_line(status_of({differing}), no_problems()),
              "WARNING - r0 verify found differences: "));
    CHECK(has(monitor_line(status_of({differing}), no_problems()), "'r0_verify_differs'=4096B"));
}

TEST_CASE("problems of the node are a warning, and those of volumes are not told twice") {
    const Json check{{"problems", Json::array({"volume r0 is broken: x", "beta's clock is wrong"})},
                     {"volume_problems", Json::array({"volume r0 is broken: x"})}};
    const MonitorLine well = monitor_line(status_of({volume()}), Result<Json>(check));
    CHECK(well.code == 1);
    CHECK(has(well, "WARNING - beta's clock is wrong |"));
    const MonitorLine both = monitor_line(status_of({broken()}), Result<Json>(check));
    CHECK(has(both, "WARNING - r0 broken: no connection to beta; beta's clock is wrong |"));
}

TEST_CASE("what could not be found out is UNKNOWN, and never OK") {
    CHECK(monitor_line(Failure(Error{ErrorKind::unreachable, "mirrord is not running", "start it"}),
                       {})
              .text == "MIRRORDISK UNKNOWN - mirrord is not running; start it");
    CHECK(monitor_line(status_of({volume()}), silence()).code == 3);
    CHECK(has(monitor_line(status_of({volume()}), silence()),
              "UNKNOWN - configuration and nodes not checked: no answer"));
    // What is known to be wrong is not hidden by it.
    CHECK(monitor_line(status_of({broken()}), silence()).code == 1);
    CHECK(monitor_line(status_of({}), no_problems()).code == 3);
    CHECK(monitor_line(Json("garbage"), no_problems()).code == 3);
    CHECK(monitor_line(status_of({Json(3)}), no_problems()).code == 3);
    Json unknown = volume();
    unknown["role"] = "standby";
    unknown["state"] = "peer-unknown";
    unknown["rpo"] = {{"seconds", nullptr}, {"bytes", nullptr}};
    unknown["replica"]["media_errors"] = nullptr;
    unknown["peers"][0]["behind_bytes"] = nullptr;
    unknown["peers"][0].erase("verify");
    const MonitorLine line = monitor_line(status_of({unknown}), no_problems());
    CHECK(line.code == 3);
    CHECK(has(line,
              "'r0_behind'=U;;;0 'r0_rpo'=U;;;0 'r0_media_errors'=U;;;0 "
              "'r0_verify_differs'=U;;;0 'r0_resync'=U;;;0;100"));
}

TEST_CASE("words of others can't begin the figures, nor a second line") {
    Json odd = broken();
    odd["why"] = "a | 'r0_rpo'=0s\nMIRRORDISK OK \x1b[2J";
    const MonitorLine line = monitor_line(status_of({odd}), no_problems());
    CHECK(line.text.find('\n') == std::string::npos);
    CHECK(line.text.find('\x1b') == std::string::npos);
    CHECK(line.text.find('|') == line.text.rfind('|'));
}

TEST_CASE_FIXTURE(
    VerbFixture,
    "check --nagios asks for the state and the node, and of one volume the state alone") {
    answer(status_of({volume()}));
    answer(*no_problems());
    CHECK(run({"check", "--nagios"}) == 0);
    REQUIRE(client.asked.size() == 2);
    CHECK(client.asked[1].at("request") == "check");
    CHECK(out.str().starts_with("MIRRORDISK OK - r0 in-sync"));
    CHECK(out.str().find('\n') == out.str().size() - 1);
    client.asked.clear();
    client.answers.clear();
    out.str("");
    answer(status_of({broken()}));
    CHECK(run({"check", "r0", "--nagios", "--timeout", "2s"}) == 1);
    REQUIRE(client.asked.size() == 1);
    CHECK(client.asked[0] == Json{{"request", "status"}, {"volume", "r0"}});
    CHECK(run({"check", "r0"}) == 2);
    CHECK(run({"check", "--nagios", "--json"}) == 2);
    CHECK(run({"check", "--nagios", "--timeout", "soon"}) == 2);
}

TEST_CASE_FIXTURE(VerbFixture, "events --test-hooks shows how each program ended") {
    answer(R"({"folder": "/etc/mirrordisk/events.d", "problems": [], "hooks": [
        {"name": "10-mail", "succeeded": true, "how": "exit status 0", "output": "", "seconds": 0.5},
        {"name": "20-web", "succeeded": false, "how": "exit status 7", "output": "no route",
         "seconds": 2}]})");
    CHECK(run({"events", "--test-hooks"}) == 1);
    CHECK(out.str() ==
          "10-mail: exit status 0 after 500 ms\n20-web: exit status 7 after 2.0 s: no route\n");
    CHECK(client.asked.at(0) == Json{{"request", "test-event-hooks"}});
    client.answers.clear();
    answer(R"({"folder": "/etc/mirrordisk/events.d", "problems": [], "hooks": []})");
    CHECK(run({"events", "r0", "--test-hooks"}) == 1);
    CHECK(client.asked.at(1).at("volume") == "r0");
    CHECK(out.str().find("no program in /etc/mirrordisk/events.d is run") != std::string::npos);
    CHECK(run({"events", "--test-hooks", "--follow"}) == 2);
}
