// SPDX-License-Identifier: BSD-3-Clause
#include "tools/status_view.hpp"

#include <cstdlib>
#include <string>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "tools/table.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

ViewContext context_at(const char* time, bool tty = false) {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
    return {Terminal{.is_tty = tty, .colour = false, .width = 80}, parse_rfc3339(time).value()};
}

Json in_sync_volume() {
    return Json::parse(R"({
        "name": "r0", "role": "active", "state": "in-sync", "since": "2026-03-01T12:30:05Z",
        "why": "Both replicas hold every answered write.", "mode": "sync",
        "size_bytes": 10737418240, "generation": "1a2b3c4d5e6f708090a0b0c0d0e0f000",
        "device": "/dev/nbd0",
        "replica": {"state": "up-to-date", "backing": "/srv/r0.img", "media_errors": 0},
        "peers": [{"node": "beta", "link": "connected", "role": "standby",
                   "replica_state": "up-to-date", "behind_bytes": 0,
                   "last_seen": "2026-03-01T12:33:00Z", "break_at": null, "resync": null}],
        "rpo": {"seconds": 0, "bytes": 0},
        "rto": {"seconds": 1.4, "phases": {"device": 0.2, "engine": 0.3}}})");
}

Json broken_volume() {
    Json volume = in_sync_volume();
    volume["state"] = "broken";
    volume["why"] = "beta did not answer within 5.0 s.";
    volume["rpo"] = {{"seconds", 180}, {"bytes", 12 << 20}};
    volume["rto"] = nullptr;
    volume["next"] = "start mirrord on beta";
    Json& peer = volume["peers"][0];
    peer["link"] = "down";
    peer["replica_state"] = "stale";
    peer["behind_bytes"] = 12 << 20;
    peer["break_at"] = "2026-03-01T12:30:05Z";
    peer["last_seen"] = "2026-02-27T10:00:00Z";
    return volume;
}

Json volume_with_gaps() {
    Json volume = broken_volume();
    volume["why"] = "beta lacks 4 KiB that the disk of alpha can't read (4 KiB at offset 8192)";
    Json& peer = volume["peers"][0];
    peer["link"] = "connected";
    peer["replica_state"] = "inconsistent";
    peer["incomplete"] = {{"bytes", 4096},
                          {"ranges", {{{"offset_bytes", 8192}, {"length_bytes", 4096}}}},
                          {"unlisted_ranges", 0},
                          {"cause", "/srv/r0.img: read of 4096 bytes at 8192: Input/output error"},
                          {"next_try_at", "2026-03-01T12:33:35Z"}};
    return volume;
}

Json resyncing_volume() {
    Json volume = broken_volume();
    volume["state"] = "resyncing";
    volume["why"] = "beta is getting what it lacks.";
    Json& peer = volume["peers"][0];
    peer["link"] = "connected";
    peer["break_at"] = nullptr;
    peer["replica_state"] = "inconsistent";
    peer["resync"] = {{"done_bytes", 3 << 20},
                      {"total_bytes", 12 << 20},
                      {"bytes_per_second", 1 << 20},
                      {"eta_seconds", 9}};
    return volume;
}

Json status_of(std::initializer_list<Json> volumes) {
    return {{"schema", 1}, {"node", "alpha"}, {"volumes", volumes}};
}

Json with_state(const char* state) {
    Json volume = in_sync_volume();
    volume["state"] = state;
    return volume;
}

}  // namespace

TEST_CASE("a volume in sync: the verdict, both sides, nothing to lose, nothing to do") {
    CHECK(format_status(status_of({in_sync_volume()}), context_at("2026-03-01T12:33:05Z")) ==
          R"(r0  in-sync  active on alpha (this node)  since 12:30:05 (3 min ago)
  Both replicas hold every answered write.
  volume  10 GiB, mode sync, /dev/nbd0, generation 1a2b3c4d
  here    alpha  active   up-to-date  /srv/r0.img
  peer    beta   standby  up-to-date  link connected, 0 B behind, seen 12:33:00 (5 s ago)
  rpo     0 s: nothing would be lost if alpha died now
  rto     1.4 s at the last takeover (device 200 ms, engine 300 ms)
)");
}

TEST_CASE("the last comparison of both replicas stands below them") {
    Json volume = in_sync_volume();
    volume["peers"][0]["verify"] = {
        {"state", "finished"},      {"mismatched_bytes", 4096},
        {"repaired_bytes", 0},      {"last_mismatched_bytes", 4096},
        {"last_repaired_bytes", 0}, {"last_finished", "2026-03-01T12:30:05Z"}};
    const std::string text = format_volume(volume, "alpha", context_at("2026-03-01T12:33:05Z"));
    CHECK(
        text.find("\n  verify  12:30:05 (3 min ago): 4 KiB differ; which node's disk is bad? then "
                  "mirrorctl verify r0 --repair\n") != std::string::npos);
}

TEST_CASE("a broken mirror: what would be lost, since when, and the next step") {
    CHECK(format_status(status_of({broken_volume()}), context_at("2026-03-01T12:33:05Z")) ==
          R"(r0  broken (standby behind)  active on alpha (this node)  since 12:30:05 (3 min ago)
  beta did not answer within 5.0 s.
  volume  10 GiB, mode sync, /dev/nbd0, generation 1a2b3c4d
  here    alpha  active   up-to-date  /srv/r0.img
  peer    beta   standby  stale       link down, 12 MiB behind, broken at 12:30:05 (3 min ago), seen 2026-02-27 10:00 (2 days ago)
  rpo     3 min 0 s, 12 MiB: written without the peer; would be lost if alpha died now
  next    start mirrord on beta
)");
}

TEST_CASE("a resync on a terminal has a bar with rate and time left") {
    const std::string text =
        format_volume(resyncing_volume(), "alpha", context_at("2026-03-01T12:33:05Z", true));
    CHECK(
        text.find(
            "  resync  [======>                  ] 25 %, 3 MiB of 12 MiB, 1 MiB/s, 9.0 s left\n") !=
        std::string::npos);
}

TEST_CASE("a resync in a pipe is words alone") {
    const std::string text =
        format_volume(resyncing_volume(), "alpha", context_at("2026-03-01T12:33:05Z"));
    CHECK(text.find("  resync  25 %, 3 MiB of 12 MiB, 1 MiB/s, 9.0 s left\n") != std::string::npos);
    CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("several volumes: a table, and a sentence only for those that are not in sync") {
    Json other = broken_volume();
    other["name"] = "mail";
    CHECK(format_status(status_of({in_sync_volume(), other}), context_at("2026-03-01T12:33:05Z")) ==
          R"(VOLUME  STATE    ROLE HERE  ACTIVE ON  PEER  SIZE    BEHIND  SINCE
r0      in-sync  active     alpha      beta  10 GiB  0 B     12:30:05 (3 min ago)
mail    broken   active     alpha      beta  10 GiB  12 MiB  12:30:05 (3 min ago)

mail: beta did not answer within 5.0 s.
    next: start mirrord on beta
)");
}

TEST_CASE("a dead node is named once with its volumes, and each piece of advice once") {
    const auto waiting = [](const char* name, const char* state, const char* peer = "gamma") {
        Json volume = broken_volume();
        volume["name"] = name;
        volume["state"] = state;
        volume["peers"][0]["node"] = peer;
        volume["next"] = std::string(state) == "broken"
                             ? fmt::format("bring {} back; then mirrorctl connect {}", peer, name)
                             : fmt::format("mirrorctl promote {} --force --dry-run", name);
        return volume;
    };
    Json status = status_of({waiting("n1", "broken"), waiting("n2", "broken"),
                             waiting("ring", "peer-unknown"), waiting("mail", "broken", "beta")});
    status["nodes"] = Json::parse(
        R"([{"node": "beta", "reachable": true, "last_seen": "2026-03-01T12:33:05Z", "why": null},
            {"node": "gamma", "reachable": false, "last_seen": "2026-03-01T12:30:05Z",
             "why": "gamma can't be reached: Connection refused"}])");
    const auto shown = [&] { return format_status(status, context_at("2026-03-01T12:33:05Z")); };
    const std::string text = shown();
    CAPTURE(text);
    CHECK(text.find("\n\ngamma unreachable since 12:30:05 (3 min ago): n1, n2, ring\n"
                    "    gamma can't be reached: Connection refused\n"
                    "    next for n1, n2: bring gamma back; then mirrorctl connect VOLUME\n"
                    "    next for ring: mirrorctl promote ring --force --dry-run\nmail: ") !=
          std::string::npos);
    CHECK(text.find("n1: ") == std::string::npos);

    SUBCASE("a node that was never seen is not given a time") {
        status["nodes"][1]["last_seen"] = nullptr;
        CHECK(shown().find("gamma unreachable since mirrord was started here: n1") !=
              std::string::npos);
    }
    SUBCASE("what only the volume can tell stays with it") {
        status["volumes"][0]["state"] = "failed";
        status["volumes"][1]["peers"][0]["link"] = "connected";
        CHECK(shown().find("unreachable") == std::string::npos);
        CHECK(shown().find("\nn1: ") != std::string::npos);
        CHECK(shown().find("\nn2: ") != std::string::npos);
    }
    SUBCASE("a mirrord that does not tell of nodes, or tells nonsense") {
        for (const Json& odd : {Json(), Json(7), Json::array({3, nullptr}), Json::object()}) {
            status["nodes"] = odd;
            CHECK(shown().find("\nn1: ") != std::string::npos);
        }
    }
}

TEST_CASE("the standby's view names the active node, and never shows unknown as nothing") {
    Json volume = in_sync_volume();
    volume["role"] = "standby";
    volume["state"] = "peer-unknown";
    volume["rpo"] = {{"seconds", nullptr}, {"bytes", nullptr}};
    volume["peers"][0]["role"] = "unknown";
    volume["peers"][0]["behind_bytes"] = nullptr;
    const std::string text = format_volume(volume, "alpha", context_at("2026-03-01T12:33:05Z"));
    CHECK(text.find("standby, active side unknown") != std::string::npos);
    CHECK(text.find("  rpo     unknown\n") != std::string::npos);
    CHECK(text.find("lag unknown") != std::string::npos);
    volume["peers"][0]["role"] = "active";
    CHECK(
        format_volume(volume, "alpha", context_at("2026-03-01T12:33:05Z")).find("active on beta") !=
        std::string::npos);
}

TEST_CASE("the next step is mirrord's, of an older version too") {
    CHECK(next_step(with_state("in-sync")).empty());
    Json known = with_state("failed");
    known["advice"] = "name the node beta again";
    CHECK(next_step(known) == "name the node beta again");
    known["next"] = "mirrorctl check";
    CHECK(next_step(known) == "mirrorctl check");
}

TEST_CASE("what is only to be compared after a crash is not called lost or lacking") {
    Json volume = broken_volume();
    volume["rpo"] = {{"seconds", 0}, {"bytes", 0}};
    const ViewContext context = context_at("2026-03-01T12:33:05Z");
    CHECK(format_volume(volume, "alpha", context).find("12 MiB to compare") != std::string::npos);
    volume["rpo"] = {{"seconds", nullptr}, {"bytes", nullptr}};
    CHECK(format_volume(volume, "alpha", context).find("12 MiB behind") != std::string::npos);
}

TEST_CASE("the exit code: the worst volume decides, at risk before unknown before degraded") {
    CHECK(status_exit_code(status_of({})) == 0);
    CHECK(status_exit_code(status_of({with_state("in-sync")})) == 0);
    CHECK(status_exit_code(status_of({with_state("in-sync"), with_state("broken")})) == 1);
    CHECK(status_exit_code(status_of({with_state("resyncing")})) == 1);
    CHECK(status_exit_code(status_of({with_state("new")})) == 1);
    CHECK(status_exit_code(status_of({with_state("peer-unknown"), with_state("broken")})) == 3);
    CHECK(status_exit_code(status_of({with_state("peer-unknown"), with_state("failed")})) == 2);
    CHECK(status_exit_code(status_of({with_state("diverged"), with_state("in-sync")})) == 2);
    CHECK(status_exit_code(status_of({with_state("a state of the future")})) == 3);
    CHECK(status_exit_code(Json("garbage")) == 3);
}

TEST_CASE("an answer of wrong types or with nothing in it is shown, not died of") {
    const ViewContext context = context_at("2026-03-01T12:33:05Z");
    CHECK(format_status(Json::object(), context) == "node unknown has no volumes\n");
    const Json odd = Json::parse(
        R"({"name": 7, "state": [], "since": "yesterday", "size_bytes": -4, "peers": [3, null],
            "rpo": "x", "rto": {"seconds": "long"}, "replica": 1})");
    CHECK(format_volume(odd, "alpha", context).find("unknown") != std::string::npos);
    CHECK_FALSE(format_status(status_of({odd, Json(3)}), context).empty());
}

TEST_CASE("control characters in a sentence cannot steer the terminal") {
    Json volume = in_sync_volume();
    volume["why"] = "a\x1b[2Jb";
    CHECK(format_volume(volume, "alpha", context_at("2026-03-01T12:33:05Z")).find("  a?[2Jb\n") !=
          std::string::npos);
}

TEST_CASE("a time before or beyond what nanoseconds reach is shown as it is") {
    (void)context_at("2026-03-01T12:33:05Z");
    CHECK(format_local(parse_rfc3339("1013-02-03T04:05:06Z").value()) == "1013-02-03 04:05:06");
    CHECK(format_local(parse_rfc3339("9999-02-03T04:05:06Z").value()) == "9999-02-03 04:05:06");
}

TEST_CASE("colours mark the state and nothing else changes") {
    ViewContext context = context_at("2026-03-01T12:33:05Z");
    const std::string plain = format_volume(in_sync_volume(), "alpha", context);
    context.terminal.colour = true;
    std::string coloured = format_volume(in_sync_volume(), "alpha", context);
    CHECK(coloured.find("\x1b[32min-sync\x1b[0m") != std::string::npos);
    for (std::size_t at = coloured.find('\x1b'); at != std::string::npos;
         at = coloured.find('\x1b')) {
        coloured.erase(at, coloured.find('m', at) - at + 1);
    }
    CHECK(coloured == plain);
}

TEST_CASE("columns align by characters, not by bytes") {
    const Terminal terminal;
    CHECK(format_table({{{"é"}, {"x"}}, {{"ab"}, {"y"}}}, terminal) == "é   x\nab  y\n");
}

TEST_CASE("errors of the disk are told in a line of their own") {
    Json volume = in_sync_volume();
    const ViewContext context = context_at("2026-03-01T12:33:05Z");
    CHECK(format_volume(volume, "alpha", context).find("repaired") == std::string::npos);
    volume["replica"]["media"] = Json::parse(
        R"({"read_errors": 3, "write_errors": 0, "timeouts": 0, "repaired": 3,
            "ranges": [{"operation": "read", "offset_bytes": 1048576, "length_bytes": 4096,
                        "action": "repaired", "last": "2026-03-01T12:32:05Z"}]})");
    CHECK(format_volume(volume, "alpha", context)
              .find("3 read errors, 3 repaired; last: read of 4 KiB at 1 MiB, repaired, ") !=
          std::string::npos);
}

TEST_CASE("what could not be read for the standby is shown with its cause and the next step") {
    const std::string text =
        format_volume(volume_with_gaps(), "alpha", context_at("2026-03-01T12:33:05Z"));
    CHECK(text.find(
              "  beta lacks 4 KiB that the disk of alpha can't read (4 KiB at offset 8192)\n") !=
          std::string::npos);
    CHECK(text.find("  unread  /srv/r0.img: read of 4096 bytes at 8192: Input/output error; read "
                    "again in 30 s\n") != std::string::npos);
    CHECK(status_exit_code({{"volumes", {volume_with_gaps()}}}) == 1);
}
