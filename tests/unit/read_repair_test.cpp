// SPDX-License-Identifier: BSD-3-Clause
// Reads that the local disk can't serve, while other things happen: nothing old comes from the
// peer, and nothing old is written in the place of what was written meanwhile.
#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/nbd/frame.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

TEST_CASE("what was written between a read from the peer and the repair by it is not undone") {
    constexpr std::uint64_t asked = nbd::max_framed_read + 4096;
    MirrorPair pair({.size = divide_up(asked, MiB) * MiB});
    REQUIRE(pair.wait_in_sync());
    Bytes old = pattern(4096, 1);
    REQUIRE(pair.volume().write(old, 0, Durability::cached));
    old.resize(asked);
    pair.alpha.disk.fail_reads({0, 4096});
    // The beginning of what is asked for has come from beta, and the rest waits there.
    Barrier rest;
    std::atomic<int> reads{0};
    pair.beta.disk_faults.before_read([&] {
        if (++reads == 2) {
            rest.wait();
        }
    });
    Bytes read(old.size());
    std::thread reader([&] { CHECK(pair.volume().read(read, 0)); });
    REQUIRE(eventually([&] { return rest.arrived() == 1; }));
    std::atomic<bool> is_writing{false};
    pair.alpha.disk_faults.before_write([&] { is_writing = true; });
    std::thread writer(
        [&] { CHECK(pair.volume().write(pattern(4096, 2), 0, Durability::cached)); });
    REQUIRE(eventually([&] { return is_writing.load(); }));
    pair.alpha.disk_faults.before_write({});
    rest.open();
    writer.join();
    reader.join();
    CHECK(read == old);  // asked for before the write was answered
    pair.alpha.disk.fail_reads({});
    CHECK(content(pair.alpha.disk, {0, 4096}) == pattern(4096, 2));
    CHECK(pair.equal());
}

TEST_CASE("while the peer is brought up to date it is read only where it lacks nothing") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    REQUIRE(pair.volume().write(pattern(4096, 2), MiB, Durability::cached));
    Barrier barrier;
    pair.beta.disk_faults.before_write([&] { barrier.wait(); });
    pair.restore();
    REQUIRE(eventually([&] {
        (void)pair.ask({{"request", "peer-hint"}});
        return barrier.arrived() == 1;
    }));
    REQUIRE(pair.mode() == "syncing");
    Bytes read(4096);
    pair.alpha.disk.fail_reads({MiB, 4096});
    CHECK_FALSE(pair.volume().read(read, MiB));
    pair.alpha.disk.fail_reads({0, 4096});
    CHECK(pair.volume().read(read, 0));
    CHECK(read == pattern(4096, 1));
    pair.alpha.disk.fail_reads({});
    pair.beta.disk_faults.before_write({});
    barrier.open();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
}
