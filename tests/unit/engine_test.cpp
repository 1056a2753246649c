// SPDX-License-Identifier: BSD-3-Clause
// The engine and a standby together, while nothing worse than a lost connection happens.
#include <thread>

#include <doctest/doctest.h>

#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

TEST_CASE("a write reaches both replicas and is read back") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    const Bytes data = pattern(10000, 1);
    REQUIRE(pair.volume().write(data, MiB - 5000, Durability::cached));
    CHECK(pair.read({MiB - 5000, data.size()}) == data);
    CHECK(content(pair.beta.disk, {MiB - 5000, data.size()}) == data);
    CHECK(pair.equal());
}
