// SPDX-License-Identifier: BSD-3-Clause
// A resync whose source has bad sectors: all else is sent, exactly these blocks stay marked, and
// nothing but a write to them, or their being readable again, ends that.
#include <algorithm>
#include <fstream>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;
using control::Json;

namespace {

/// alpha wrote `range` alone, then its disk got the `bad` sectors, then beta came back.
void leave_behind(MirrorPair& pair, ByteRange range, const std::vector<ByteRange>& bad) {
    REQUIRE(pair.wait_in_sync());
    // Nothing but what is written from here on may differ.
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(range.length, 1), range.offset, Durability::cached));
    for (const ByteRange& sectors : bad) {
        pair.alpha.disk.make_bad(sectors);
    }
    pair.restore();
}

[[nodiscard]] bool wait_incomplete(MirrorPair& pair) {
    const bool reached = eventually([&] { return pair.mode() == "incomplete"; });
    CHECK_MESSAGE(reached, pair.status().dump(1));
    return reached;
}

/// Sooner than the blocks would be read again.
[[nodiscard]] bool heals(MirrorPair& pair) {
    return eventually([&] { return pair.mode() == "in-sync"; }, 8s);
}

/// Where the peer lacks something, as status says.
std::vector<ByteRange> lacking(MirrorPair& pair) {
    std::vector<ByteRange> ranges;
    const Json incomplete = pair.status()["peer"]["incomplete"];
    for (const Json& range : incomplete["ranges"]) {
        ranges.push_back({range["offset_bytes"], range["length_bytes"]});
    }
    return ranges;
}

/// The replicas differ nowhere but there.
bool equal_but_for(MirrorPair& pair, const std::vector<ByteRange>& ranges) {
    pair.alpha.disk.heal();
    Bytes here = content(pair.alpha.disk, {0, pair_size});
    const Bytes there = content(pair.beta.disk, {0, pair_size});
    for (const ByteRange& range : ranges) {
        const bool differs = !std::equal(here.begin() + static_cast<long>(range.offset),
                                         here.begin() + static_cast<long>(range.end()),
                                         there.begin() + static_cast<long>(range.offset));
        CHECK(differs);
        std::copy(there.begin() + static_cast<long>(range.offset),
                  there.begin() + static_cast<long>(range.end()),
                  here.begin() + static_cast<long>(range.offset));
    }
    return here == there;
}

std::vector<Json> events(const MirrorPair& pair, const std::string& id) {
    std::vector<Json> found;
    std::ifstream file(pair.state_dir() + "/events.jsonl");
    for (std::string line; std::getline(file, line);) {
        if (Json event = Json::parse(line); event["id"] == id) {
            found.push_back(std::move(event));
        }
    }
    return found;
}

const std::vector<ByteRange> two_gaps{{MiB + 40 * KiB, 4 * KiB}, {2 * MiB - 4 * KiB, 8 * KiB}};

/// Sectors within these blocks.
const std::vector<ByteRange> bad_sectors{{MiB + 41 * KiB, 512}, {2 * MiB - 512, 1024}};

}  // namespace

TEST_CASE("what cannot be read stays marked, all else is sent, and the mirror is not in sync") {
    MirrorPair pair;
    leave_behind(pair, {MiB / 2, 3 * MiB}, bad_sectors);
    REQUIRE(wait_incomplete(pair));
    const Json status = pair.status();
    CHECK(lacking(pair) == two_gaps);
    CHECK(status["peer"]["behind_bytes"] == 12 * KiB);
    CHECK(status["peer"]["replica_state"] == "inconsistent");
    CHECK(status["peer"]["incomplete"]["bytes"] == 12 * KiB);
    CHECK(status["peer"]["incomplete"]["cause"].get<std::string>().find("unreadable") !=
          std::string::npos);
    CHECK(status["rpo_bytes"] == 12 * KiB);
    const std::string why = status["why"];
    CHECK(why.find("beta lacks 12 KiB that the disk of alpha can't read (4 KiB at offset 1089536, "
                   "8 KiB at offset 2093056)") == 0);
    // On the disk too, and nothing else.
    const Bitmap changed = map_on(pair.alpha.meta, MapKind::changed);
    CHECK(changed.count() == 3);
    CHECK(changed.test((MiB + 40 * KiB) / block_size));
    CHECK(map_on(pair.alpha.meta, MapKind::suspect).empty());
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::inconsistent);
    // It knows what a promotion would lose.
    CHECK(eventually([&] { return superblock_on(pair.beta.meta).lacking_bytes == 12 * KiB; }));
    CHECK(equal_but_for(pair, two_gaps));
}

TEST_CASE("an application that writes the last of these blocks heals the mirror by itself") {
    MirrorPair pair;
    leave_behind(pair, {MiB / 2, 3 * MiB}, bad_sectors);
    REQUIRE(wait_incomplete(pair));
    REQUIRE(pair.volume().write(pattern(4 * KiB, 2), two_gaps[0].offset, Durability::cached));
    CHECK(lacking(pair) == std::vector<ByteRange>{two_gaps[1]});
    CHECK(pair.mode() == "incomplete");
    REQUIRE(pair.volume().zero(two_gaps[1], Space::may_free, Durability::fua));
    REQUIRE(heals(pair));
    CHECK(pair.status()["peer"]["incomplete"].is_null());
    CHECK(superblock_on(pair.beta.meta).state == ReplicaState::up_to_date);
    CHECK(superblock_on(pair.beta.meta).lacking_bytes == 0);
    CHECK(pair.equal());
    CHECK(pair.read(two_gaps[0]) == pattern(4 * KiB, 2));
}

TEST_CASE("writes go to both meanwhile, and reads of what the peer has come from there") {
    MirrorPair pair;
    leave_behind(pair, {MiB, MiB}, bad_sectors);
    REQUIRE(wait_incomplete(pair));
    Bytes bytes(4 * KiB);
    CHECK_FALSE(pair.volume().read(bytes, two_gaps[0].offset));
    REQUIRE(pair.volume().write(pattern(64 * KiB, 3), 3 * MiB, Durability::fua));
    CHECK(content(*durable_image(pair.beta.disk), {3 * MiB, 64 * KiB}) == pattern(64 * KiB, 3));
    pair.alpha.disk.make_bad({3 * MiB, 4 * KiB});
    CHECK(pair.read({3 * MiB, 64 * KiB}) == pattern(64 * KiB, 3));
    CHECK(pair.mode() == "incomplete");
    pair.alpha.disk.heal();
    (void)pair.ask({{"request", "resync"}});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a region that must be compared is compared around its bad sectors") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(2 * MiB, 4), MiB, Durability::cached));
    pair.cut();  // without a checkpoint: both regions are suspect
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4 * KiB, 5), MiB, Durability::cached));
    pair.alpha.disk.make_bad({MiB + 41 * KiB, 512});
    pair.restore();
    REQUIRE(wait_incomplete(pair));
    CHECK(lacking(pair) == std::vector<ByteRange>{two_gaps[0]});
    CHECK(pair.status()["peer"]["behind_bytes"] == 4 * KiB);
    CHECK(pair.last_resync("compared_bytes") == 2 * MiB);
    CHECK(pair.last_resync("sent_bytes") < 256 * KiB);
    REQUIRE(pair.volume().write(pattern(4 * KiB, 6), two_gaps[0].offset, Durability::cached));
    REQUIRE(heals(pair));
    CHECK(pair.equal());
}

TEST_CASE("a bad sector is not taken for what the buffer holds in its place") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4 * KiB, 7), 2 * MiB, Durability::cached));
    pair.cut();  // the region is suspect, and nothing in it is known to be changed
    REQUIRE(pair.wait_alone());
    // beta has zeroes there, as a buffer that was never read into has; alpha has something else.
    const std::vector<ByteRange> gap{{2 * MiB + 256 * KiB, 4 * KiB}};
    REQUIRE(pair.alpha.disk.open()->write(pattern(4 * KiB, 8), gap[0].offset));
    pair.alpha.disk.make_bad({gap[0].offset, 512});
    pair.restore();
    REQUIRE(wait_incomplete(pair));
    CHECK(lacking(pair) == gap);
    CHECK(equal_but_for(pair, gap));
}

TEST_CASE("a bad sector beside what changed holds up nothing") {
    MirrorPair pair;
    leave_behind(pair, {MiB, 16 * KiB}, {{MiB + 512 * KiB, 512}});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("compared_bytes") == 0);
    pair.alpha.disk.heal();
    CHECK(pair.equal());
}

TEST_CASE("it is told once, counted once a try, and not tried again and again") {
    MirrorPair pair;
    leave_behind(pair, {MiB, MiB}, bad_sectors);
    REQUIRE(wait_incomplete(pair));
    const std::uint64_t failed = pair.alpha.disk.failed_reads();
    const auto told = [&] { return events(pair, "resync-incomplete"); };
    REQUIRE(eventually([&] { return told().size() == 1; }));
    CHECK(told()[0]["text"].get<std::string>().find("offset 1089536") != std::string::npos);
    CHECK(told()[0]["remedy"].get<std::string>().find("mirrorctl resync r0") != std::string::npos);
    CHECK(events(pair, "media-error").empty());
    const std::uint64_t counted = pair.status()["media"]["read_errors"];
    CHECK(counted == 2);
    CHECK(pair.status()["media"]["ranges"][0]["action"] == "not-sent");
    CHECK_FALSE(eventually(
        [&] {
            (void)pair.ask({{"request", "peer-hint"}});
            return pair.alpha.disk.failed_reads() != failed;
        },
        300ms));
    (void)pair.ask({{"request", "resync"}});
    CHECK(eventually([&] { return pair.status()["media"]["read_errors"] == 2 * counted; }));
    CHECK(eventually([&] { return pair.status()["peer"]["resync"].is_null(); }));
    CHECK(pair.mode() == "incomplete");
    CHECK(told().size() == 1);
    CHECK(events(pair, "resync-started").size() == 1);
    CHECK(pair.server().sessions() == 2);  // the first one, and the one of the resync
}

TEST_CASE("a disk that can read again is found by mirrorctl resync") {
    MirrorPair pair;
    leave_behind(pair, {MiB, MiB}, bad_sectors);
    REQUIRE(wait_incomplete(pair));
    pair.alpha.disk.heal();
    (void)pair.ask({{"request", "resync"}});
    REQUIRE(heals(pair));
    CHECK(pair.equal());
}

TEST_CASE("a crash of the active loses nothing of what the standby lacks") {
    MirrorPair pair;
    leave_behind(pair, {MiB / 2, 3 * MiB}, bad_sectors);
    REQUIRE(wait_incomplete(pair));
    pair.lose_power(Victim::alpha, [](std::size_t) { return true; });
    pair.start_again();
    REQUIRE(wait_incomplete(pair));
    CHECK(lacking(pair) == two_gaps);
    CHECK(equal_but_for(pair, two_gaps));
    (void)pair.ask({{"request", "resync"}});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("a lost link, a disconnect and a full resync end the wait") {
    MirrorPair pair;
    leave_behind(pair, {MiB, MiB}, {bad_sectors[0]});
    REQUIRE(wait_incomplete(pair));
    SUBCASE("a lost link") {
        pair.cut();
        REQUIRE(pair.wait_alone());
        CHECK(pair.status()["peer"]["incomplete"].is_null());
        pair.restore();
    }
    SUBCASE("a disconnect") {
        (void)pair.ask({{"request", "disconnect"}});
        CHECK(pair.mode() == "alone");
        (void)pair.ask({{"request", "connect"}});
    }
    SUBCASE("a full resync") {
        (void)pair.ask({{"request", "resync"}, {"full", true}});
        CHECK(eventually([&] { return pair.last_resync("compared_bytes") == pair_size; }));
    }
    REQUIRE(wait_incomplete(pair));
    CHECK(lacking(pair) == std::vector<ByteRange>{two_gaps[0]});
    pair.alpha.disk.heal();
    (void)pair.ask({{"request", "resync"}});
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}

TEST_CASE("with on_peer_loss = stop writes and flushes wait for no block that cannot be read") {
    MirrorPair pair({.on_peer_loss = OnPeerLoss::stop});
    REQUIRE(pair.wait_in_sync());
    Barrier barrier;
    pair.beta.disk_faults.before_write([&] { barrier.wait(); });
    // In flight at the break, so it waits for the peer; the region is compared afterwards.
    std::thread writer(
        [&] { CHECK(pair.volume().write(pattern(4096, 10), MiB, Durability::fua)); });
    CHECK(eventually([&] { return barrier.arrived() == 1; }));
    pair.alpha.disk.make_bad({MiB + 41 * KiB, 512});
    pair.server().sever();
    CHECK(pair.wait_alone());
    std::thread flusher([&] { CHECK(pair.volume().flush()); });
    barrier.open();
    pair.beta.disk_faults.before_write({});
    pair.cut();
    pair.restore();
    writer.join();
    flusher.join();
    CHECK(pair.mode() == "incomplete");
    CHECK(content(*durable_image(pair.beta.disk), {MiB, 4096}) == pattern(4096, 10));
    REQUIRE(pair.volume().write(pattern(4096, 11), 3 * MiB, Durability::cached));
    REQUIRE(pair.volume().write(pattern(4096, 12), two_gaps[0].offset, Durability::cached));
    REQUIRE(heals(pair));
    CHECK(pair.equal());
}

TEST_CASE("a demote while blocks are unreadable keeps them marked") {
    MirrorPair pair;
    leave_behind(pair, {MiB, MiB}, bad_sectors);
    REQUIRE(wait_incomplete(pair));
    (void)pair.ask({{"request", "quiesce"}});
    const Bitmap changed = map_on(*durable_image(pair.alpha.meta), MapKind::changed);
    CHECK(changed.count() == 2);
    CHECK(changed.test((MiB + 40 * KiB) / block_size));
    CHECK(superblock_on(*durable_image(pair.beta.meta)).state == ReplicaState::inconsistent);
}
