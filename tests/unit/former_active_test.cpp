// SPDX-License-Identifier: BSD-3-Clause
// A standby that was active before: whichever of its maps names a region, that region is compared.
#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

/// What beta's metadata would hold had it been active and crashed, one map with one region.
void crash_as_active(MemoryDisk& meta, MapKind kind, BitRange bits) {
    auto file = MetaFile::load(meta.open(), "beta");
    REQUIRE(file);
    REQUIRE((*file)->update([](Superblock& block) { block.unclean = true; }));
    Bitmap map(map_bits(kind, pair_size));
    map.set(bits);
    REQUIRE((*file)->write_map(kind, map));
    REQUIRE((*file)->sync());
}

}  // namespace

TEST_CASE("a former active is rolled back where any one of its maps says that it may differ") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(pair_size, 1), 0, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    ByteRange differing;
    SUBCASE("the intents alone: it crashed in sync") {
        differing = {2 * MiB + 5000, 9000};
        crash_as_active(pair.beta.meta, MapKind::intent, {2, 3});
    }
    SUBCASE("the suspects alone") {
        differing = {3 * MiB + 5000, 9000};
        crash_as_active(pair.beta.meta, MapKind::suspect, {3, 4});
    }
    SUBCASE("the changed blocks alone") {
        differing = {MiB + 4096, 4096};
        crash_as_active(pair.beta.meta, MapKind::changed, bits_touched(differing, block_size));
    }
    SUBCASE("the intents alone, in the volume's last, shorter region") {
        differing = {4 * MiB + 16 * KiB, 4096};
        crash_as_active(pair.beta.meta, MapKind::intent, {4, 5});
    }
    SUBCASE("the changed blocks alone, in the volume's last, shorter region") {
        differing = {4 * MiB + 16 * KiB, 4096};
        crash_as_active(pair.beta.meta, MapKind::changed, bits_touched(differing, block_size));
    }
    // Written there, and answered to nobody.
    REQUIRE(pair.beta.disk.open()->write(pattern(differing.length, 2), differing.offset));
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.equal());
    CHECK_FALSE(superblock_on(pair.beta.meta).unclean);
    for (const MapKind kind : {MapKind::intent, MapKind::suspect, MapKind::changed}) {
        CHECK(map_on(pair.beta.meta, kind).empty());
    }
}

TEST_CASE("a standby of another session than the maps speak of is compared as a whole") {
    MirrorPair pair;
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(pair_size, 1), 0, Durability::cached));
    REQUIRE(pair.volume().checkpoint());
    pair.cut();
    REQUIRE(pair.wait_alone());
    {
        auto file = MetaFile::load(pair.beta.meta.open(), "beta");
        REQUIRE(file);
        REQUIRE((*file)->update([](Superblock& block) { block.session = random_id<SessionId>(); }));
    }
    // What no map knows of.
    pair.beta.disk.damage(MiB + 5000, std::byte{1});
    pair.beta.disk.damage(pair_size - 1, std::byte{1});
    pair.restore();
    REQUIRE(pair.wait_in_sync());
    CHECK(pair.last_resync("compared_bytes") == pair_size);
    CHECK(pair.equal());
}
