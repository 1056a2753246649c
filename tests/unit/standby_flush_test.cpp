// SPDX-License-Identifier: BSD-3-Clause
// A standby that cannot make durable what it has answered: from then on a flush is a promise that
// the active keeps alone, and that must be on record before it is given.
#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "express_client.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

const Error broken{ErrorKind::io, "the disk is broken", {}, 5};

/// As it would be found after a loss of power at this moment.
Superblock durable_superblock(MirrorPair& pair) {
    return superblock_on(*durable_image(pair.alpha.meta));
}

void check_gone_alone(MirrorPair& pair, const Lineage& before) {
    const Superblock now = durable_superblock(pair);
    CHECK(now.solo);
    CHECK(now.lineage.current() != before.current());
    CHECK(now.lineage.contains(before.current()));
    CHECK(pair.mode() != "in-sync");
}

}  // namespace

TEST_CASE("a flush that failed on the standby is answered when the new generation is durable") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    const Lineage before = durable_superblock(pair).lineage;
    pair.beta.disk_faults.fail_flushes(broken);
    REQUIRE(pair.volume().flush());
    check_gone_alone(pair, before);
    CHECK(content(*durable_image(pair.alpha.disk), {0, 4096}) == pattern(4096, 1));
    pair.beta.disk_faults.fail_flushes({});
    REQUIRE(pair.wait_in_sync());
    CHECK(content(*durable_image(pair.beta.disk), {0, 4096}) == pattern(4096, 1));
}

TEST_CASE("the same through the express door") {
    Express express;
    MirrorPair& pair = express.pair;
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    const Lineage before = durable_superblock(pair).lineage;
    pair.beta.disk_faults.fail_flushes(broken);
    SUBCASE("a flush") {
        REQUIRE(express.client->link().flush());
    }
    SUBCASE("a write with FUA") {
        REQUIRE(express.client->link().write(pattern(4096, 1), 0, true));
    }
    check_gone_alone(pair, before);
    CHECK(content(*durable_image(pair.alpha.disk), {0, 4096}) == pattern(4096, 1));
    pair.beta.disk_faults.fail_flushes({});
    REQUIRE(pair.wait_in_sync());
    CHECK(content(*durable_image(pair.beta.disk), {0, 4096}) == pattern(4096, 1));
    CHECK(pair.equal());
}

TEST_CASE("with on_peer_loss = stop a flush that failed on the standby waits for it") {
    const auto check = [](MirrorPair& pair, const std::function<bool()>& flush) {
        const Lineage before = durable_superblock(pair).lineage;
        pair.beta.disk_faults.fail_flushes(broken);
        std::atomic<bool> may_be_answered{false};
        std::atomic<bool> too_early{false};
        std::thread flusher([&] {
            CHECK(flush());
            too_early = !may_be_answered;
        });
        // Not back before beta can flush again: it asks for a session in vain.
        CHECK(eventually([&] { return pair.server().sessions() >= 3; }));
        may_be_answered = true;
        pair.beta.disk_faults.fail_flushes({});
        CHECK(pair.wait_in_sync());
        flusher.join();
        CHECK_FALSE(too_early);
        CHECK(durable_superblock(pair).lineage == before);
        CHECK(content(*durable_image(pair.beta.disk), {0, 4096}) == pattern(4096, 1));
    };
    SUBCASE("through nbdkit's door") {
        MirrorPair pair({.on_peer_loss = OnPeerLoss::stop});
        REQUIRE(pair.wait_in_sync());
        REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
        check(pair, [&] { return pair.volume().flush().has_value(); });
    }
    SUBCASE("through the express door") {
        Express express({.on_peer_loss = OnPeerLoss::stop});
        REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
        check(express.pair, [&] { return express.client->link().flush().has_value(); });
    }
}
