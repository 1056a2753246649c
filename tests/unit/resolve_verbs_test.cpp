// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl resolve and undo, and how status shows a split brain.
#include <filesystem>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/undo/undo_folder.hpp"
#include "core/undo/undo_writer.hpp"
#include "tools/split_brain_view.hpp"
#include "verb_fixture.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

struct Fixture : VerbFixture {
    Fixture() { node = "beta"; }

    void answer_plan() {
        answer(Json{{"would", {"give up the data of beta in favour of that of alpha"}},
                    {"loss", "4 KiB of beta"},
                    {"keep", "alpha"},
                    {"lose", "beta"},
                    {"undo_bytes", 8192},
                    {"free_bytes", 1048576}});
    }
    void answer_diverged() {
        answer(Json{{"volumes", Json::array({{{"name", "r0"}, {"state", "diverged"}}})}});
    }
    void answer_done() { answer(Json{{"text", "alpha of r0 is kept"}}); }

    void make_undo(std::uint64_t id, const std::string& text) {
        std::filesystem::create_directories(dir.file("r0"));
        UndoInfo info;
        info.volume_name = "r0";
        info.volume_size = 1 * MiB;
        info.node = "beta";
        info.kept = "alpha";
        info.made_at = parse_rfc3339("2026-03-01T12:30:05Z").value();
        auto writer = UndoWriter::create(UndoFolder(dir.path(), "r0").path_of(id), info);
        REQUIRE(writer);
        REQUIRE(writer->add(8192, std::as_bytes(std::span(text))));
        REQUIRE(writer->finish());
    }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "resolve has no default side") {
    CHECK(run({"resolve", "r0", "--yes"}) == exit_usage);
    CHECK(err.str().find("--keep NODE is required") != std::string::npos);
    CHECK(client.asked.empty());
}

TEST_CASE_FIXTURE(Fixture, "where nobody can be asked resolve needs --yes, and says so") {
    answer_diverged();
    CHECK(run({"resolve", "r0", "--keep", "alpha", "--no-undo"}) == exit_refused);
    CHECK(err.str().find("mirrorctl resolve r0 --keep alpha --no-undo --yes") != std::string::npos);
    CHECK(client.asked.size() == 1);
    client.answers.clear();
    answer_done();
    CHECK(run({"resolve", "r0", "--keep", "alpha", "--yes"}) == exit_done);
    CHECK(client.asked.at(1) == Json{{"request", "resolve"},
                                     {"volume", "r0"},
                                     {"keep", "alpha"},
                                     {"dry_run", false},
                                     {"no_undo", false},
                                     {"disconnect_clients", false}});
}

TEST_CASE_FIXTURE(Fixture, "with --json a person at the terminal is not asked either") {
    can_ask = true;
    answer_diverged();
    CHECK(run({"resolve", "r0", "--keep", "alpha", "--json"}) == exit_refused);
    REQUIRE(client.asked.size() == 1);
    CHECK(client.asked.at(0)["request"] == "status");
}

TEST_CASE_FIXTURE(Fixture, "nobody is asked for a yes to a volume that has not diverged") {
    answer(R"({"volumes": [{"name": "r0", "state": "in-sync"}]})");
    client.answers.emplace_back(Failure(Error{ErrorKind::refused, "r0 has not diverged", "look"}));
    CHECK(run({"resolve", "r0", "--keep", "alpha"}) == exit_refused);
    CHECK(err.str() == "mirrorctl: r0 has not diverged; look\n");
    REQUIRE(client.asked.size() == 2);
    CHECK(client.asked.at(1)["dry_run"] == true);
}

TEST_CASE_FIXTURE(Fixture, "what stands in the way of a resolution does not hide its price") {
    Json plan = Json::parse(
        R"({"would": ["save 4 KiB of beta"], "loss": "4 KiB of beta", "lose": "beta",
            "obstacle": {"kind": "busy", "message": "beta serves r0", "remedy": "unmount it"}})");
    answer(plan);
    SUBCASE("a dry run ends as the real one would") {
        CHECK(run({"resolve", "r0", "--keep", "alpha", "--dry-run"}) == exit_refused);
        CHECK(out.str().find("loss:  4 KiB of beta") != std::string::npos);
        CHECK(err.str() == "mirrorctl: beta serves r0; unmount it\n");
    }
    SUBCASE("for programs the price and the refusal are one object") {
        CHECK(run({"resolve", "r0", "--keep", "alpha", "--dry-run", "--json"}) == exit_refused);
        const Json told = Json::parse(out.str());
        CHECK(told["ok"] == false);
        CHECK(told["error"]["kind"] == "busy");
        CHECK(told["loss"] == "4 KiB of beta");
    }
    SUBCASE("a person is not asked for what would be refused") {
        can_ask = true;
        CHECK(run({"resolve", "r0", "--keep", "alpha"}) == exit_refused);
        CHECK(client.asked.size() == 1);
        CHECK(err.str().find("beta serves r0") != std::string::npos);
    }
}

TEST_CASE_FIXTURE(Fixture, "on a terminal the loss is shown and a name must be typed") {
    can_ask = true;
    answer_plan();
    SUBCASE("the volume's") {
        in.str("r0\n");
        answer_done();
        CHECK(run({"resolve", "r0", "--keep", "alpha"}) == exit_done);
        CHECK(client.asked.size() == 2);
        CHECK(client.asked.at(0)["dry_run"] == true);
        CHECK(client.asked.at(1)["dry_run"] == false);
    }
    SUBCASE("the losing node's") {
        in.str("beta\n");
        answer_done();
        CHECK(run({"resolve", "r0", "--keep", "alpha"}) == exit_done);
        CHECK(client.asked.size() == 2);
    }
    SUBCASE("the kept node's is no yes") {
        in.str("alpha\n");
        CHECK(run({"resolve", "r0", "--keep", "alpha"}) == exit_refused);
        CHECK(client.asked.size() == 1);
    }
    SUBCASE("nothing is no yes") {
        CHECK(run({"resolve", "r0", "--keep", "alpha"}) == exit_refused);
        CHECK(client.asked.size() == 1);
    }
    CHECK(out.str().find("loss:  4 KiB of beta") != std::string::npos);
    CHECK(out.str().find("1 MiB are free") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "a dry run says the loss and needs no yes") {
    answer_plan();
    CHECK(run({"resolve", "r0", "--keep", "alpha", "--dry-run"}) == exit_done);
    CHECK(client.asked.at(0)["dry_run"] == true);
    CHECK(out.str().find("nothing was changed (--dry-run)") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "undo does one thing at a time") {
    CHECK(run({"undo", "r0"}) == exit_usage);
    CHECK(run({"undo", "r0", "--list", "--drop"}) == exit_usage);
}

TEST_CASE_FIXTURE(Fixture, "undo lists and exports without the daemon") {
    CHECK(run({"undo", "r0", "--list"}) == exit_done);
    CHECK(out.str() == "r0 has no undo file on beta\n");
    CHECK(run({"undo", "r0", "--export", "x"}) == exit_refused);
    make_undo(1, std::string(4096, 'a'));
    out.str("");
    CHECK(run({"undo", "r0", "--list"}) == exit_done);
    CHECK(out.str().find("1   2026-03-01 12:30:05  beta       alpha  4 KiB") != std::string::npos);
    const std::string image = dir.file("image");
    CHECK(run({"undo", "r0", "--export", image.c_str()}) == exit_done);
    CHECK(std::filesystem::file_size(image) == 1 * MiB);
    make_undo(2, std::string(4096, 'b'));
    err.str("");
    const std::string second = dir.file("second");
    CHECK(run({"undo", "r0", "--export", second.c_str()}) == exit_refused);
    CHECK(err.str().find("say which with --id N") != std::string::npos);
    CHECK(run({"undo", "r0", "--export", second.c_str(), "--id", "3"}) == exit_refused);
    CHECK(run({"undo", "r0", "--export", second.c_str(), "--id", "2"}) == exit_done);
    CHECK(client.asked.empty());
}

TEST_CASE_FIXTURE(Fixture, "undo --drop says what is lost and needs a yes") {
    make_undo(1, std::string(4096, 'a'));
    CHECK(run({"undo", "r0", "--drop"}) == exit_refused);
    CHECK(err.str().find("4 KiB in 1 run that beta had") != std::string::npos);
    CHECK(err.str().find("mirrorctl undo r0 --drop --id 1 --yes") != std::string::npos);
    can_ask = true;
    in.str("no\n");
    CHECK(run({"undo", "r0", "--drop"}) == exit_refused);
    CHECK(client.asked.empty());
    in.clear();
    in.str("r0\n");
    answer(Json{{"text", "undo 1 of r0 was dropped"}});
    CHECK(run({"undo", "r0", "--drop"}) == exit_done);
    CHECK(client.asked.at(0) == Json{{"request", "undo-drop"}, {"volume", "r0"}, {"id", 1}});
}

TEST_CASE("status shows the two sides of a split brain in two columns") {
    ::setenv("TZ", "UTC", 1);
    const Json volume = Json::parse(R"({"name": "r0", "peers": [{"node": "beta", "split_brain": {
        "ancestor": {"generation": "1122334455", "began_at": "2026-03-01T12:00:00Z",
                     "words": "the volume was created on alpha"},
        "here": {"node": "alpha", "role": "active", "replica_state": "up-to-date",
                 "lineage": [{"began_at": "2026-03-01T12:30:00Z",
                              "words": "alpha was active and continued without its peer"}],
                 "last_write_at": "2026-03-01T12:32:00Z", "break_at": "2026-03-01T12:29:00Z",
                 "changed_bytes": 8192, "may_differ_bytes": 1048576},
        "there": {"node": "beta", "role": "standby", "replica_state": "stale",
                  "lineage": [{"began_at": "2026-03-01T12:31:30Z",
                               "words": "beta was active and continued without its peer"},
                              {"began_at": "2026-03-01T12:31:00Z",
                               "words": "beta was promoted with --force"}],
                  "last_write_at": null, "break_at": "2026-03-01T12:31:00Z",
                  "changed_bytes": 4096, "may_differ_bytes": 0},
        "clock_skew_seconds": -2.5}}],
        "undo": [{"id": 3, "saved_bytes": 4096, "made_at": "2026-03-01T12:00:00Z"}]})");
    const ViewContext context{{}, parse_rfc3339("2026-03-01T12:33:00Z").value()};
    CHECK(split_brain_lines(volume, context) ==
          "  in common until generation 11223344, begun 12:00:00 (33 min ago): the volume was "
          "created on alpha\n"
          "                alpha (this node)                                                      "
          "beta\n"
          "    is          active, up-to-date                                                     "
          "standby, stale\n"
          "    since then  12:30:00 (3 min ago): alpha was active and continued without its peer  "
          "12:31:00 (2 min ago): beta was promoted with --force\n"
          "                                                                                       "
          "12:31:30 (1 min ago): beta was active and continued without its peer\n"
          "    broke       12:29:00 (4 min ago)                                                   "
          "12:31:00 (2 min ago)\n"
          "    last write  12:32:00 (1 min ago)                                                   "
          "unknown\n"
          "    changed     8 KiB only here                                                        "
          "4 KiB only there\n"
          "    to compare  1 MiB                                                                  "
          "0 B\n"
          "    clock       this one                                                               "
          "2.5 s behind\n");
    CHECK(undo_words(volume, context) ==
          "1 undo file of resolved split brains here, 4 KiB saved, the last 12:00:00 (33 min ago): "
          "mirrorctl undo r0 --list");
    CHECK(split_brain_lines(Json::object(), context).empty());
    CHECK(undo_words(Json::object(), context).empty());
}
