// SPDX-License-Identifier: BSD-3-Clause
// The comparison of both replicas by the engine: what it finds, and what it must not find.
#include "core/engine/verify.hpp"

#include <atomic>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

using control::Json;

/// So slow that nothing but the first piece is compared before somebody asks for more.
constexpr std::uint64_t crawl = 16 * KiB;

Json verify_of(MirrorPair& pair) {
    return pair.status()["peer"]["verify"];
}

Json begin(MirrorPair& pair, const Json& wishes = Json::object()) {
    Json request = {{"request", "verify"}, {"rate", 0}};
    request.update(wishes);
    return pair.ask(request);
}

bool wait_for_state(MirrorPair& pair, const std::string& state) {
    return eventually([&] { return verify_of(pair)["state"] == state; });
}

/// A whole comparison; how it ended.
Json verified(MirrorPair& pair, const Json& wishes = Json::object()) {
    (void)begin(pair, wishes);
    REQUIRE(wait_for_state(pair, "finished"));
    return verify_of(pair);
}

/// No holes anywhere, and no intent that would have a resync compare what a test damages.
void fill(MirrorPair& pair) {
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(pair_size, 1), 0, Durability::fua));
    REQUIRE(pair.volume().checkpoint());
}

bool has_event(const MirrorPair& pair, const std::string& id) {
    std::ifstream file(pair.state_dir() + "/events.jsonl");
    for (std::string line; std::getline(file, line);) {
        if (Json::parse(line)["id"] == id) {
            return true;
        }
    }
    return false;
}

Json range(std::uint64_t offset, std::uint64_t length, bool repaired) {
    return {{"offset", offset}, {"length", length}, {"unreadable", false}, {"repaired", repaired}};
}

/// The first MiB is compared, the rest is not.
void crawl_past_first_piece(MirrorPair& pair) {
    (void)begin(pair, {{"rate", crawl}});
    REQUIRE(eventually([&] { return verify_of(pair)["done_bytes"] == MiB; }));
}

}  // namespace

TEST_CASE("equal replicas are found equal while many threads write, again and again") {
    MirrorPair pair;
    fill(pair);
    std::atomic<bool> stop{false};
    std::atomic<int> failures{0};
    std::vector<std::thread> writers;
    for (unsigned id = 0; id < 4; ++id) {
        writers.emplace_back([&, id] {
            std::minstd_rand random(id + 1);
            for (unsigned i = 0; !stop; ++i) {
                const std::uint64_t length = 512 * (1 + random() % 300);
                const std::uint64_t offset = 512 * (random() % ((pair_size - length) / 512));
                const auto done =
                    i % 8 == 0
                        ? pair.volume().zero({offset, length}, Space::may_free, Durability::cached)
                        : pair.volume().write(pattern(length, i), offset, Durability::cached);
                failures += done ? 0 : 1;
            }
        });
    }
    for (int round = 0; round < 40; ++round) {
        const Json end = verified(pair);
        CHECK(end["mismatched_bytes"] == 0);
        CHECK(end["done_bytes"] == pair_size);
    }
    stop = true;
    for (std::thread& writer : writers) {
        writer.join();
    }
    CHECK(failures == 0);
    CHECK(pair.mode() == "in-sync");
    CHECK(pair.equal());
    CHECK_FALSE(has_event(pair, "verify-mismatch"));
}

TEST_CASE("a write that is on one disk only, so far, is no finding") {
    MirrorPair pair;
    fill(pair);
    Barrier barrier;
    pair.alpha.disk_faults.before_write([&] { barrier.wait(); });
    const Bytes data = pattern(20000, 9);
    std::thread writer(
        [&] { CHECK(pair.volume().write(data, 2 * MiB + 512, Durability::cached)); });
    REQUIRE(eventually([&] {
        return barrier.arrived() == 1 && content(pair.beta.disk, {2 * MiB + 512, 20000}) == data;
    }));
    CHECK_FALSE(pair.equal());
    (void)begin(pair);
    // It cannot get past the write, and does not say that anything differs either.
    CHECK(eventually([&] { return verify_of(pair)["done_bytes"] >= 2 * MiB; }));
    CHECK(verify_of(pair)["done_bytes"] == 2 * MiB);
    CHECK(verify_of(pair)["mismatched_bytes"] == 0);
    barrier.open();
    writer.join();
    REQUIRE(wait_for_state(pair, "finished"));
    CHECK(verify_of(pair)["mismatched_bytes"] == 0);
}

TEST_CASE("a flipped bit is found exactly, on either disk, also where there was a hole") {
    for (const bool filled : {true, false}) {
        CAPTURE(filled);
        MirrorPair pair;
        REQUIRE(pair.wait_in_sync());
        if (filled) {
            fill(pair);
        }
        pair.beta.disk.damage(3 * MiB + 5000, std::byte{1});
        pair.beta.disk.damage(3 * MiB + 8192, std::byte{1});
        pair.alpha.disk.damage(pair_size - 1, std::byte{0x80});
        const Json end = verified(pair);
        CHECK(end["ranges"] == Json::array({range(3 * MiB + 4096, 8192, false),
                                            range(pair_size - 4096, 4096, false)}));
        CHECK(end["mismatched_bytes"] == 3 * 4096);
        CHECK(end["repaired_bytes"] == 0);
        CHECK(end["last_mismatched_bytes"] == 3 * 4096);
        CHECK(end["age_seconds"].is_number());
        CHECK(has_event(pair, "verify-mismatch"));
        CHECK_FALSE(pair.equal());
        CHECK(pair.mode() == "in-sync");
    }
}

TEST_CASE("repair sends the active's blocks, durably, and nothing else") {
    MirrorPair pair;
    fill(pair);
    const std::uint64_t offset = MiB + 64 * KiB;
    pair.beta.disk.damage(offset, std::byte{1});
    const std::uint64_t writes = pair.beta.disk.writes();
    const Json end = verified(pair, {{"repair", true}});
    CHECK(end["ranges"] == Json::array({range(offset, 4096, true)}));
    CHECK(end["repaired_bytes"] == 4096);
    CHECK(pair.equal());
    CHECK(pair.beta.disk.writes() == writes + 1);
    CHECK(content(*durable_image(pair.beta.disk), {offset, 4096}) ==
          content(pair.alpha.disk, {offset, 4096}));
    CHECK(has_event(pair, "verify-repaired"));
    CHECK_FALSE(has_event(pair, "verify-mismatch"));
    CHECK(verified(pair)["mismatched_bytes"] == 0);
}

TEST_CASE("what the standby's disk does not take is not counted as repaired") {
    MirrorPair pair;
    fill(pair);
    pair.beta.disk.damage(MiB, std::byte{1});
    pair.beta.disk.fail_writes(true);
    (void)begin(pair, {{"repair", true}});
    REQUIRE(eventually([&] {
        const Json verify = verify_of(pair);
        return verify["state"] == "finished" || !verify["waits_for"].is_null();
    }));
    CHECK(verify_of(pair)["repaired_bytes"] == 0);
    CHECK_FALSE(pair.equal());
}

TEST_CASE("what the standby's disk takes and gives back changed is not counted as repaired") {
    MirrorPair pair;
    fill(pair);
    pair.beta.disk.damage(MiB, std::byte{1});
    std::atomic<bool> was_written{false};
    pair.beta.disk_faults.before_write([&] { was_written = true; });
    pair.beta.disk_faults.before_read([&] {
        if (was_written.exchange(false)) {
            pair.beta.disk.damage(MiB, std::byte{2});
        }
    });
    const Json end = verified(pair, {{"repair", true}});
    CHECK(end["repaired_bytes"] == 0);
    CHECK(end["mismatched_bytes"] == 4096);
    CHECK(has_event(pair, "verify-mismatch"));
    CHECK_FALSE(has_event(pair, "verify-repaired"));
    CHECK_FALSE(pair.equal());
}

TEST_CASE("what the active cannot read comes from the standby, and its disk is written again") {
    MirrorPair pair;
    fill(pair);
    const std::uint64_t writes = pair.alpha.disk.writes();
    pair.alpha.disk.fail_reads({2 * MiB + 4096, 512});
    CHECK(verified(pair)["mismatched_bytes"] == 0);
    CHECK(pair.alpha.disk.writes() > writes);
    CHECK(has_event(pair, "media-error"));
    CHECK(pair.mode() == "in-sync");
}

TEST_CASE("what the standby cannot read is a finding, and the mirror stays") {
    MirrorPair pair;
    fill(pair);
    pair.beta.disk.fail_reads({2 * MiB + 4096, 512});
    const Json end = verified(pair);
    REQUIRE(end["ranges"].size() == 1);
    CHECK(end["ranges"][0]["offset"] == 2 * MiB);
    CHECK(end["ranges"][0]["unreadable"] == true);
    CHECK(pair.mode() == "in-sync");
}

TEST_CASE("a broken comparison goes on where it was when the mirror is in sync again") {
    MirrorPair pair;
    fill(pair);
    crawl_past_first_piece(pair);
    // Behind its back now: what comes before the position is not looked at again.
    pair.beta.disk.damage(4096, std::byte{1});
    pair.beta.disk.damage(3 * MiB, std::byte{1});
    SUBCASE("the link is lost") {
        pair.cut();
        REQUIRE(pair.wait_alone());
        REQUIRE(eventually([&] { return !verify_of(pair)["waits_for"].is_null(); }));
        CHECK(verify_of(pair)["state"] == "running");
        // Answered without the peer, and resynced: no finding.
        REQUIRE(pair.volume().write(pattern(100000, 5), 2 * MiB, Durability::cached));
        pair.restore();
    }
    SUBCASE("the engine dies") {
        pair.crash_active();
        pair.start_again();
    }
    REQUIRE(pair.wait_in_sync());
    CHECK(verify_of(pair)["done_bytes"] >= MiB);
    CHECK(begin(pair)["resumed"] == true);  // with no limit from here on
    REQUIRE(wait_for_state(pair, "finished"));
    CHECK(verify_of(pair)["ranges"] == Json::array({range(3 * MiB, 4096, false)}));
    CHECK(has_event(pair, "verify-resumed"));
}

TEST_CASE("a stopped comparison rests until it is asked to go on") {
    MirrorPair pair;
    fill(pair);
    crawl_past_first_piece(pair);
    (void)pair.ask({{"request", "verify"}, {"stop", true}});
    CHECK(verify_of(pair)["state"] == "stopped");
    pair.crash_active();
    pair.start_again();
    REQUIRE(pair.wait_in_sync());
    CHECK(verify_of(pair)["state"] == "stopped");
    CHECK(verify_of(pair)["done_bytes"] == MiB);
    pair.beta.disk.damage(4096, std::byte{1});
    SUBCASE("it goes on") {
        CHECK(begin(pair)["resumed"] == true);
        REQUIRE(wait_for_state(pair, "finished"));
        CHECK(verify_of(pair)["mismatched_bytes"] == 0);
    }
    SUBCASE("--restart begins at the start") {
        CHECK(verified(pair, {{"restart", true}})["mismatched_bytes"] == 4096);
    }
    SUBCASE("so does a repair: what was found before is to be repaired too") {
        CHECK(verified(pair, {{"repair", true}})["repaired_bytes"] == 4096);
    }
}

TEST_CASE("a damaged record begins anew and says so; the last result survives a restart") {
    MirrorPair pair;
    fill(pair);
    pair.beta.disk.damage(4096, std::byte{1});
    (void)verified(pair);
    pair.crash_active();
    const std::string path = verify_record_path(pair.state_dir(), "r0");
    SUBCASE("whole") {
        pair.start_again();
        CHECK(verify_of(pair)["state"] == "finished");
        CHECK(verify_of(pair)["mismatched_bytes"] == 4096);
        CHECK_FALSE(verify_of(pair)["last_finished"].is_null());
        CHECK_FALSE(has_event(pair, "verify-record-lost"));
    }
    SUBCASE("garbled") {
        std::ofstream(path, std::ios::trunc) << "half a rec";
        pair.start_again();
        CHECK(verify_of(pair)["state"] == "never");
        CHECK(has_event(pair, "verify-record-lost"));
        REQUIRE(pair.wait_in_sync());
        CHECK(verified(pair)["mismatched_bytes"] == 4096);
    }
    SUBCASE("of another volume") {
        auto record = load_verify_record(path);
        REQUIRE(record);
        (*record)->volume = random_id<VolumeId>();
        REQUIRE(save_verify_record(path, **record));
        pair.start_again();
        CHECK(verify_of(pair)["state"] == "never");
        CHECK(has_event(pair, "verify-record-lost"));
    }
}

TEST_CASE("a repair that another node was asked for is not made with this node's blocks") {
    MirrorPair pair;
    fill(pair);
    (void)begin(pair, {{"repair", true}, {"rate", crawl}});
    REQUIRE(eventually([&] { return verify_of(pair)["done_bytes"] == MiB; }));
    pair.beta.disk.damage(3 * MiB, std::byte{1});
    pair.crash_active();
    const std::string path = verify_record_path(pair.state_dir(), "r0");
    auto record = load_verify_record(path);
    REQUIRE(record);
    (*record)->source = "beta";
    (*record)->rate = 0;
    REQUIRE(save_verify_record(path, **record));
    pair.start_again();
    REQUIRE(pair.wait_in_sync());
    REQUIRE(wait_for_state(pair, "finished"));
    CHECK(verify_of(pair)["ranges"] == Json::array({range(3 * MiB, 4096, false)}));
}

TEST_CASE("what is not in sync is not compared, with the reason and what would be accepted") {
    MirrorPair pair;
    fill(pair);
    pair.cut();
    REQUIRE(pair.wait_alone());
    for (const bool dry_run : {true, false}) {
        const auto refused = pair.volume().handle({{"request", "verify"}, {"dry_run", dry_run}});
        REQUIRE_FALSE(refused);
        CHECK(refused.error().kind == ErrorKind::refused);
        CHECK(refused.error().message.find("is not in sync: ") != std::string::npos);
        CHECK(refused.error().remedy ==
              "mirrorctl wait r0 --for in-sync, then mirrorctl verify r0");
    }
    CHECK_FALSE(pair.volume().handle({{"request", "verify"}, {"repair", "yes"}}));
}

TEST_CASE("a second request changes the rate, and does not turn a comparison into a repair") {
    MirrorPair pair;
    fill(pair);
    crawl_past_first_piece(pair);
    const auto refused = pair.volume().handle({{"request", "verify"}, {"repair", true}});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().remedy.find("--repair --restart") != std::string::npos);
    (void)begin(pair);
    CHECK(wait_for_state(pair, "finished"));
}

TEST_CASE("a dry run tells what would be read, without the holes, and changes nothing") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(MiB, 1), 2 * MiB, Durability::cached));
    const Json plan = pair.ask({{"request", "verify"}, {"dry_run", true}, {"rate", 256 * KiB}});
    CHECK(plan["bytes"] == MiB);
    CHECK(plan["seconds"] == 4);
    CHECK(verify_of(pair)["state"] == "never");
}

TEST_CASE("the standby is told where the comparison is") {
    MirrorPair pair;
    fill(pair);
    std::atomic<int> told{0};
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        told += what == "verify-record" ? 1 : 0;
        return {};
    });
    (void)verified(pair);
    CHECK(eventually([&] { return told >= 2; }));  // at its begin and at its end
    pair.cut();
    REQUIRE(pair.wait_alone());
    const int before = told;
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(eventually([&] { return told > before; }));
}

TEST_CASE("a comparison is stopped also while the standby takes its time to keep the record") {
    MirrorPair pair({.peer_timeout = 20s});
    fill(pair);
    Barrier barrier;
    crawl_past_first_piece(pair);
    pair.server().on_request([&](const std::string& what) -> Result<void> {
        if (what == "verify-record") {
            barrier.wait();
        }
        return {};
    });
    // Asks for it in a thread of its own, and waits for the standby.
    std::thread other([&] { (void)begin(pair, {{"rate", crawl}, {"restart", true}}); });
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    (void)pair.ask({{"request", "verify"}, {"stop", true}});
    CHECK(verify_of(pair)["state"] == "stopped");
    CHECK(pair.mode() == "in-sync");
    CHECK(barrier.arrived() == 1);  // and is still waiting
    barrier.open();
    other.join();
    CHECK(barrier.arrived() > 1);  // it was told how that ended, too
}

TEST_CASE("of several requests at once one begins a comparison, and the others find it") {
    for (int round = 0; round < 40; ++round) {
        MirrorPair pair;
        fill(pair);  // more than the one piece that is compared before the first rest
        std::atomic<int> begun{0};
        std::atomic<int> ready{0};
        std::vector<std::thread> people;
        for (int i = 0; i < 4; ++i) {
            people.emplace_back([&] {
                ++ready;
                while (ready < 4) {
                }
                begun += begin(pair, {{"rate", 1}})["resumed"] == false ? 1 : 0;
            });
        }
        for (std::thread& each : people) {
            each.join();
        }
        REQUIRE(begun == 1);
    }
}

TEST_CASE("a disk that was mended while its comparison was stopped is told of") {
    MirrorPair pair;
    fill(pair);
    pair.beta.disk.damage(0, std::byte{1});
    Barrier barrier;
    pair.beta.disk_faults.before_write([&] { barrier.wait(); });
    (void)begin(pair, {{"repair", true}});
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    (void)pair.ask({{"request", "verify"}, {"stop", true}});
    CHECK(verify_of(pair)["state"] == "stopped");
    barrier.open();
    CHECK(eventually([&] { return has_event(pair, "verify-repaired"); }));
    CHECK(verify_of(pair)["repaired_bytes"] == 0);
}
