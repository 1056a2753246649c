// SPDX-License-Identifier: BSD-3-Clause
// The end of an engine: only what was made durable counts as ended in good order.
#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

const Error broken{ErrorKind::io, "the disk is broken", {}, 5};

struct Alone {
    Alone() {
        REQUIRE(pair.wait_in_sync());
        pair.cut();
        REQUIRE(pair.wait_alone());
        REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    }
    MirrorPair pair;
};

}  // namespace

TEST_CASE("a demote that can't flush is none: the replica stays that of an active that crashed") {
    Alone alone;
    SUBCASE("the backing") {
        alone.pair.alpha.disk_faults.fail_flushes(broken);
    }
    SUBCASE("the metadata") {
        alone.pair.alpha.meta_faults.fail_flushes(broken);
    }
    const auto quiesced = alone.pair.volume().handle({{"request", "quiesce"}});
    CHECK_FALSE(quiesced);
    alone.pair.alpha.meta_faults.fail_flushes({});
    const auto meta = durable_image(alone.pair.alpha.meta);
    CHECK(superblock_on(*meta).role == Role::active);
    CHECK(superblock_on(*meta).unclean);
    CHECK(map_on(*meta, MapKind::intent).test(0));
}

TEST_CASE("an engine that can't flush is not ready to be replaced, and goes on") {
    Alone alone;
    alone.pair.alpha.disk_faults.fail_flushes(broken);
    CHECK_FALSE(alone.pair.volume().handle({{"request", "hold"}}));
    alone.pair.alpha.disk_faults.fail_flushes({});
    CHECK(map_on(alone.pair.alpha.meta, MapKind::intent).test(0));
    // Nobody is held back any more.
    CHECK(alone.pair.volume().write(pattern(4096, 2), 0, Durability::cached));
    alone.pair.restore();
    REQUIRE(alone.pair.wait_in_sync());
    CHECK(alone.pair.equal());
}
