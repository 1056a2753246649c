// SPDX-License-Identifier: BSD-3-Clause
// The standby's side of a session: fencing, and what it records when.
#include <atomic>
#include <memory>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/checksum.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

constexpr std::uint64_t size = 2 * MiB + 8192;

/// A standby behind its server, and an active that the test plays.
struct Standby {
    Standby() : machine(size, meta_file_size(size)) {
        Superblock block;
        block.volume = random_id<VolumeId>();
        block.volume_name = "r0";
        block.node = "beta";
        block.peer = "alpha";
        block.size = size;
        block.state = ReplicaState::up_to_date;
        block.lineage.begin(random_id<GenerationId>(), {}, "alpha", GenerationReason::created);
        REQUIRE(MetaFile::format(machine.meta.open(), block));
        auto meta = MetaFile::load(machine.open_meta(), "meta");
        REQUIRE(meta);
        auto opened = Replica::open(machine.open_disk(), std::move(*meta), system_clock());
        REQUIRE(opened);
        server.start(std::move(*opened));
    }
    Replica& replica() { return *server.replica(); }
    Superblock superblock() { return superblock_on(*durable_image(machine.meta)); }
    SessionId begin(bool resync) {
        const auto session = random_id<SessionId>();
        REQUIRE(replica().begin_session({session, "alpha", resync, 1}));
        return session;
    }
    Result<std::unique_ptr<nbd::Link>> open(const std::string& name) {
        nbd::Address address;
        address.tcp = {"127.0.0.1", server.port()};
        return nbd::Link::connect(
            address, name,
            {.connect_timeout = 20s, .deadline = 60s, .heartbeat = false, .peer_name = "beta"});
    }
    std::unique_ptr<nbd::Link> open_data(const SessionId& session) {
        auto link = open("r0@" + to_string(session));
        REQUIRE_MESSAGE(link, link.error().text());
        return std::move(*link);
    }

    Machine machine;
    StandbyServer server{"r0"};
};

}  // namespace

TEST_CASE("only the current session opens the data and the digests") {
    Standby standby;
    const SessionId first = standby.begin(false);
    CHECK(standby.open("r0@" + to_string(first)));
    CHECK(standby.open("r0/digest@" + to_string(first)));
    CHECK_FALSE(standby.open("r0@" + to_string(random_id<SessionId>())));
    CHECK_FALSE(standby.open("r0@" + to_string(SessionId{})));
    CHECK_FALSE(standby.open("r0@nonsense"));
    CHECK_FALSE(standby.open("r0"));
    const SessionId second = standby.begin(false);
    CHECK_FALSE(standby.open("r0@" + to_string(first)));
    CHECK_FALSE(standby.open("r0/digest@" + to_string(first)));
    CHECK(standby.open("r0@" + to_string(second)));
}

TEST_CASE("no session can be used before one was begun") {
    Standby standby;
    CHECK_FALSE(standby.open("r0@" + to_string(SessionId{})));
    CHECK_FALSE(standby.replica().session_synced(SessionId{}, standby.superblock().lineage, 1));
    CHECK_FALSE(standby.replica().session());
}

TEST_CASE("a promotion while the standby flushes at a session's end of resync keeps its history") {
    Standby standby;
    const SessionId session = standby.begin(true);
    const Lineage sent = standby.superblock().lineage;
    std::atomic<bool> promoted{false};
    standby.machine.disk_faults.before_flush([&] {
        if (!promoted.exchange(true)) {
            CHECK(standby.replica().update([](Superblock& block) {
                block.role = Role::active;
                block.lineage.begin(random_id<GenerationId>(), {}, "beta",
                                    GenerationReason::forced_promotion);
            }));
        }
    });
    CHECK_FALSE(standby.replica().session_synced(session, sent, 1));
    CHECK(relate(standby.superblock().lineage, sent) == Relation::ahead);
    CHECK(standby.superblock().state == ReplicaState::inconsistent);
}

TEST_CASE("a session does not begin at a replica that was promoted while its disk was waited for") {
    std::atomic<bool> promoted{false};
    Standby standby;
    const Superblock before = standby.superblock();
    standby.machine.disk_faults.before_flush([&] {
        if (!promoted.exchange(true)) {
            CHECK(standby.replica().update([](Superblock& block) { block.role = Role::active; }));
        }
    });
    CHECK_FALSE(standby.replica().begin_session({random_id<SessionId>(), "alpha", true, 100}));
    REQUIRE(promoted);
    CHECK(standby.superblock().role == Role::active);
    CHECK(standby.superblock().state == before.state);
    CHECK(standby.superblock().session == before.session);
    standby.machine.disk_faults.before_flush({});
}

TEST_CASE("a new session waits for the last write of the old one and lets no later one in") {
    Standby standby;
    const auto link = standby.open_data(standby.begin(false));
    Barrier barrier;
    standby.machine.disk_faults.before_write([&] { barrier.wait(); });
    const Bytes first = pattern(4096, 1);
    const Bytes later = pattern(4096, 2);
    std::atomic<int> failures{0};
    const auto count = [&](const Result<void>& result) { failures += result ? 0 : 1; };
    link->write(first, 0, false, count);
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    // These wait in the server's buffer and in the socket's.
    constexpr int waiting = 500;
    for (int i = 0; i < waiting; ++i) {
        link->write(later, 8192, false, count);
    }
    std::atomic<bool> begun{false};
    std::thread next([&] {
        CHECK(standby.replica().begin_session({random_id<SessionId>(), "alpha", false, 1}));
        begun = true;
    });
    CHECK_FALSE(eventually([&] { return begun.load(); }, 100ms));
    barrier.open();
    next.join();
    standby.machine.disk_faults.before_write(
        [] { FAIL_CHECK("a write of the old session came after the new one had begun"); });
    CHECK(content(standby.machine.disk, {8192, 4096}) == Bytes(4096));
    CHECK(eventually([&] { return failures >= waiting; }));
    CHECK(content(standby.machine.disk, {8192, 4096}) == Bytes(4096));
}

TEST_CASE("nobody joins the old session while the new one waits for its last write") {
    Standby standby;
    const SessionId old = standby.begin(false);
    const auto link = standby.open_data(old);
    Barrier barrier;
    standby.machine.disk_faults.before_write([&] { barrier.wait(); });
    link->write(pattern(4096, 1), 0, false, [](const Result<void>&) {});
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    std::thread next([&] {
        CHECK(standby.replica().begin_session({random_id<SessionId>(), "alpha", false, 1}));
    });
    // The old connection is shut as the first thing, under the same lock.
    REQUIRE(eventually([&] { return link->is_lost(); }));
    CHECK_FALSE(standby.open("r0@" + to_string(old)));
    CHECK_FALSE(standby.open("r0/digest@" + to_string(old)));
    CHECK_FALSE(standby.replica().session());
    barrier.open();
    next.join();
    CHECK(standby.superblock().session != old);
}

TEST_CASE("the end of a session waits for its last write, and has it on the disk") {
    Standby standby;
    const SessionId session = standby.begin(false);
    const auto link = standby.open_data(session);
    Barrier barrier;
    standby.machine.disk_faults.before_write([&] { barrier.wait(); });
    link->write(pattern(4096, 1), 0, false, [](const Result<void>&) {});
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    std::thread end([&] { CHECK(standby.replica().end_session(session, true)); });
    REQUIRE(eventually([&] { return link->is_lost(); }));
    CHECK(standby.superblock().state == ReplicaState::up_to_date);
    barrier.open();
    end.join();
    CHECK(standby.superblock().state == ReplicaState::stale);
    CHECK(content(*durable_image(standby.machine.disk), {0, 4096}) == pattern(4096, 1));
}

TEST_CASE(
    "a session that can't be flushed at its end has not ended well, and the active hears it") {
    Standby standby;
    const SessionId session = standby.begin(false);
    REQUIRE(standby.open_data(session)->write(pattern(4096, 1), 0, false));
    standby.machine.disk_faults.fail_flushes(Error{ErrorKind::io, "broken"});
    const auto ended = standby.replica().end_session(session, true);
    REQUIRE_FALSE(ended);
    CHECK(ended.error().kind == ErrorKind::io);
    CHECK(standby.superblock().state == ReplicaState::stale);
}

TEST_CASE("the standby tells its owner when it can't flush for the active") {
    Standby standby;
    std::atomic<int> told{0};
    standby.replica().on_disk_error([&](const Error&) { ++told; });
    const auto link = standby.open_data(standby.begin(false));
    REQUIRE(link->write(pattern(4096, 9), 0, false));
    standby.machine.disk_faults.fail_flushes(Error{ErrorKind::io, "the disk is broken", {}, 5});
    CHECK_FALSE(link->flush());
    CHECK(told == 1);
    CHECK(standby.replica().media().write_errors == 1);
}

TEST_CASE("a hole has the digests of zeroes, its short last block the digest of fewer") {
    Standby standby;
    const SessionId session = standby.begin(false);
    auto link = standby.open("r0/digest@" + to_string(session));
    REQUIRE(link);
    const Digester digester(session);
    const std::uint64_t count = divide_up(size, digest_block_size);
    std::vector<Digest> digests(count);
    REQUIRE((*link)->read(std::as_writable_bytes(std::span(digests)), 0));
    CHECK(digests.front() == digester(Bytes(digest_block_size)));
    CHECK(digests.back() == digester(Bytes(size % digest_block_size)));
    CHECK(standby.machine.disk.bytes_read() == size % digest_block_size);
}

TEST_CASE("a session with a resync is inconsistent until it is synced") {
    Standby standby;
    const SessionId session = standby.begin(true);
    CHECK(standby.superblock().state == ReplicaState::inconsistent);
    CHECK(standby.superblock().session == session);
    Lineage lineage = standby.superblock().lineage;
    lineage.begin(random_id<GenerationId>(), {}, "alpha", GenerationReason::peer_lost);
    REQUIRE(standby.open_data(session)->write(pattern(4096, 3), 0, false));
    REQUIRE(standby.replica().session_synced(session, lineage, 1));
    CHECK(standby.superblock().state == ReplicaState::up_to_date);
    CHECK(standby.superblock().lineage == lineage);
    CHECK(content(*durable_image(standby.machine.disk), {0, 4096}) == pattern(4096, 3));
    // The answer may have been lost on its way.
    REQUIRE(standby.replica().session_synced(session, lineage, 1));
    CHECK(standby.superblock().lineage == lineage);
}

TEST_CASE("a standby that cannot flush is not up to date") {
    Standby standby;
    const SessionId session = standby.begin(true);
    std::atomic<int> told{0};
    standby.replica().on_disk_error([&](const Error&) { ++told; });
    standby.machine.disk_faults.fail_flushes(Error{ErrorKind::io, "broken"});
    CHECK_FALSE(standby.replica().session_synced(session, standby.superblock().lineage, 1));
    CHECK(standby.superblock().state == ReplicaState::inconsistent);
    CHECK(told == 1);
}

TEST_CASE("an old session's end of resync does not declare a new session's replica up to date") {
    Standby standby;
    const SessionId old = standby.begin(true);
    const auto newer = random_id<SessionId>();
    // The new one asks to begin in the middle of the old one's end, and all the time that it takes
    // is given to it: it has to be refused, or to begin afterwards.
    Result<void> begun;
    std::atomic<bool> in_the_middle{true};
    standby.machine.disk_faults.before_flush([&] {
        if (in_the_middle.exchange(false)) {
            std::thread([&] {
                begun = standby.replica().begin_session({newer, "alpha", true, 2});
            }).join();
        }
    });
    REQUIRE(standby.replica().session_synced(old, standby.superblock().lineage, 1));
    if (begun) {
        CHECK(standby.superblock().session == newer);
        CHECK(standby.superblock().state == ReplicaState::inconsistent);
    } else {
        CHECK(begun.error().kind == ErrorKind::busy);
        CHECK(standby.superblock().session == old);
        CHECK(standby.superblock().state == ReplicaState::up_to_date);
    }
    REQUIRE(standby.replica().begin_session({newer, "alpha", true, 2}));
    CHECK(standby.superblock().state == ReplicaState::inconsistent);
    CHECK(standby.superblock().session == newer);
}

TEST_CASE("a disconnected standby is stale, one that was demoted from is not") {
    for (const bool goes_on : {true, false}) {
        Standby standby;
        const SessionId session = standby.begin(false);
        const auto link = standby.open_data(session);
        REQUIRE(link->write(pattern(4096, 4), 0, false));
        REQUIRE(standby.replica().end_session(session, goes_on));
        CHECK(standby.superblock().state ==
              (goes_on ? ReplicaState::stale : ReplicaState::up_to_date));
        CHECK(content(*durable_image(standby.machine.disk), {0, 4096}) == pattern(4096, 4));
        CHECK_FALSE(link->write(pattern(4096, 5), 0, false));
        CHECK_FALSE(standby.open("r0@" + to_string(session)));
        CHECK_FALSE(standby.replica().end_session(session, goes_on));
    }
}

TEST_CASE("an unfinished resync stays inconsistent after a disconnect") {
    Standby standby;
    REQUIRE(standby.replica().end_session(standby.begin(true), true));
    CHECK(standby.superblock().state == ReplicaState::inconsistent);
}

TEST_CASE("what a resync could not bring is kept until there is a session or an end of resync") {
    Standby standby;
    const SessionId session = standby.begin(true);
    CHECK_FALSE(standby.replica().session_incomplete(random_id<SessionId>(), 4096, "not ours"));
    REQUIRE(standby.replica().session_incomplete(session, 4096, "all but 4 KiB"));
    CHECK(standby.replica().session()->incomplete == "all but 4 KiB");
    CHECK(standby.superblock().state == ReplicaState::inconsistent);
    CHECK(standby.superblock().lacking_bytes == 4096);
    CHECK(standby.replica().summary().lacking_bytes == 4096);
    SUBCASE("a new session") {
        (void)standby.begin(true);
        CHECK(standby.superblock().state == ReplicaState::inconsistent);
    }
    SUBCASE("the end of the resync") {
        REQUIRE(standby.replica().session_synced(session, standby.superblock().lineage, 1));
        CHECK(standby.superblock().state == ReplicaState::up_to_date);
    }
    CHECK(standby.superblock().lacking_bytes == 0);
    CHECK(standby.replica().session()->incomplete.empty());
    const SessionId in_sync = standby.replica().session()->id;
    if (standby.superblock().state == ReplicaState::up_to_date) {
        REQUIRE(standby.replica().session_incomplete(in_sync, 4096, "of no meaning now"));
        CHECK(standby.superblock().lacking_bytes == 0);
    }
}

TEST_CASE("a generation is adopted only from the session and only if it descends from ours") {
    Standby standby;
    const SessionId session = standby.begin(false);
    const Lineage ours = standby.superblock().lineage;
    Lineage descendant = ours;
    descendant.begin(random_id<GenerationId>(), {}, "alpha", GenerationReason::local_disk_failed);
    CHECK_FALSE(standby.replica().adopt_generation(random_id<SessionId>(), descendant, true));
    Lineage foreign;
    foreign.begin(random_id<GenerationId>(), {}, "alpha", GenerationReason::created);
    CHECK_FALSE(standby.replica().adopt_generation(session, foreign, true));
    CHECK(standby.superblock().lineage == ours);
    CHECK(standby.replica().adopt_generation(session, descendant, true));
    CHECK(standby.superblock().lineage == descendant);
}

TEST_CASE(
    "a generation that is taken after all connections of its session have ended is withdrawn") {
    Standby standby;
    const SessionId session = standby.begin(false);
    auto link = standby.open_data(session);
    const Lineage ours = standby.superblock().lineage;
    Lineage offered = ours;
    offered.begin(random_id<GenerationId>(), {}, "alpha", GenerationReason::local_disk_failed);
    const auto leave = [&] {
        link.reset();
        CHECK(eventually([&] { return standby.replica().session()->connections == 0; }));
    };
    SUBCASE("they had ended before it was asked for") {
        leave();
    }
    SUBCASE("they end while the disk takes its time") {
        standby.machine.meta_faults.before_flush([&] {
            if (link) {
                leave();
            }
        });
    }
    const auto taken = standby.replica().adopt_generation(session, offered, false);
    standby.machine.meta_faults.before_flush({});
    REQUIRE_FALSE(taken);
    CHECK(taken.error().kind == ErrorKind::unreachable);
    CHECK(standby.superblock().lineage == ours);
}

TEST_CASE("the digests are those of the data, zero blocks and the short last one included") {
    Standby standby;
    REQUIRE(standby.machine.disk.open()->write(pattern(300 * KiB, 6), 100 * KiB));
    REQUIRE(standby.machine.disk.open()->write(pattern(700, 7), size - 700));
    const SessionId session = standby.begin(false);
    auto link = standby.open("r0/digest@" + to_string(session));
    REQUIRE(link);
    const Digester digester(session);
    const std::uint64_t count = divide_up(size, digest_block_size);
    std::vector<Digest> digests(count);
    REQUIRE((*link)->read(std::as_writable_bytes(std::span(digests)), 0));
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t offset = i * digest_block_size;
        CHECK(digests[i] ==
              digester(content(standby.machine.disk,
                               {offset, std::min(digest_block_size, size - offset)})));
    }
    CHECK_FALSE((*link)->write(pattern(16, 8), 0, false));
}

TEST_CASE("the standby tells its owner when its disk fails, and the active gets the error") {
    Standby standby;
    std::atomic<int> told{0};
    standby.replica().on_disk_error([&](const Error& error) {
        CHECK(error.message == "the disk is full");
        ++told;
    });
    const auto link = standby.open_data(standby.begin(false));
    standby.machine.disk_faults.fail_writes(Error{ErrorKind::no_space, "the disk is full", {}, 28});
    const auto written = link->write(pattern(4096, 9), 0, false);
    REQUIRE_FALSE(written);
    CHECK(written.error().kind == ErrorKind::no_space);
    CHECK_FALSE(link->zero({0, 4096}, Space::may_free, false));
    CHECK(told == 2);
}

TEST_CASE("the regions that a former active may differ in are its three maps together") {
    Machine machine(size, meta_file_size(size));
    Superblock block;
    block.volume_name = "r0";
    block.size = size;
    auto meta = MetaFile::format(machine.open_meta(), block);
    REQUIRE(meta);
    Bitmap regions(map_bits(MapKind::intent, size));
    regions.set({0, 1});
    REQUIRE((*meta)->write_map(MapKind::intent, regions));
    Bitmap changed(map_bits(MapKind::changed, size));
    changed.set({2 * MiB / block_size, 2 * MiB / block_size + 1});
    REQUIRE((*meta)->write_map(MapKind::changed, changed));
    auto replica = Replica::open(machine.open_disk(), std::move(*meta), system_clock());
    REQUIRE(replica);
    CHECK((*replica)->summary().intent_bytes == region_size);
    CHECK((*replica)->summary().changed_bytes == block_size);
    auto exported = (*replica)->open_export("/changes", [] {});
    REQUIRE(exported);
    Bytes bits(1);
    REQUIRE((*exported)->read(bits, 0));
    CHECK(bits[0] == std::byte{0b101});
    CHECK_FALSE((*exported)->zero({0, 1}, Space::may_free));
}
