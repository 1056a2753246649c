// SPDX-License-Identifier: BSD-3-Clause
#include "core/meta/superblock.hpp"

#include <array>
#include <chrono>
#include <utility>

#include <doctest/doctest.h>

#include "core/meta/transitions.hpp"
#include "tests/unit/superblocks.hpp"

using namespace mirror;

namespace {

using Slot = std::array<std::byte, superblock_slot_size>;

void check_same(const Superblock& a, const Superblock& b) {
    CHECK(a.sequence == b.sequence);
    CHECK(a.volume == b.volume);
    CHECK(a.volume_name == b.volume_name);
    CHECK(a.node == b.node);
    CHECK(a.peer == b.peer);
    CHECK(a.size == b.size);
    CHECK(a.role == b.role);
    CHECK(a.state == b.state);
    CHECK(a.unclean == b.unclean);
    CHECK(a.last_active == b.last_active);
    CHECK(a.solo == b.solo);
    CHECK(a.paused == b.paused);
    CHECK(a.session == b.session);
    CHECK(a.created == b.created);
    CHECK(a.last_update == b.last_update);
    CHECK(a.break_at == b.break_at);
    CHECK(a.synced_at == b.synced_at);
    CHECK(a.media_errors == b.media_errors);
    CHECK(a.yields_to == b.yields_to);
    CHECK(a.lacking_bytes == b.lacking_bytes);
    CHECK(a.steps == b.steps);
    CHECK(a.backing_mark == b.backing_mark);
    CHECK(a.backing_identity == b.backing_identity);
    CHECK(a.doubtful == b.doubtful);
    CHECK(a.lineage == b.lineage);
}

}  // namespace

TEST_CASE("every field survives the way to disk and back") {
    Slot slot;
    const Superblock full = test::full_superblock(10 * GiB);
    REQUIRE(encode(full, slot));
    const auto back = decode(slot);
    REQUIRE(back);
    check_same(*back, full);

    REQUIRE(encode(Superblock{}, slot));
    check_same(decode(slot).value(), Superblock{});
}

TEST_CASE("a time that no calendar has becomes its end, and can be sent and subtracted") {
    constexpr auto most = std::chrono::microseconds::max();
    constexpr auto least = std::chrono::microseconds::min();
    for (const auto& [stored, read] :
         {std::pair(most, "9999-12-31T00:00:00.000Z"), {least, "0001-01-01T00:00:00.000Z"}}) {
        Superblock block = test::full_superblock(1 * GiB);
        block.break_at = WallTime(stored);
        Slot slot{};
        REQUIRE(encode(block, slot));
        const auto decoded = decode(slot);
        REQUIRE(decoded);
        CHECK(format_rfc3339(decoded->break_at) == read);
        CHECK(parse_rfc3339(format_rfc3339(decoded->break_at)) == decoded->break_at);
    }
}

TEST_CASE("each flag has a bit of its own") {
    for (auto flag : {&Superblock::unclean, &Superblock::last_active, &Superblock::solo,
                      &Superblock::paused, &Superblock::doubtful}) {
        Superblock block;
        block.*flag = true;
        Slot slot;
        REQUIRE(encode(block, slot));
        check_same(decode(slot).value(), block);
    }
}

TEST_CASE("the bytes are those of the table") {
    Superblock block;
    block.sequence = 0x0102030405060708;
    block.volume_name = "r0";
    block.role = Role::active;
    block.paused = true;
    Slot slot;
    REQUIRE(encode(block, slot));
    const auto at = [&](std::size_t i) { return std::to_integer<int>(slot[i]); };
    CHECK(at(0) == 'M');
    CHECK(at(7) == '1');
    CHECK(at(8) == 1);
    CHECK(at(16) == 8);
    CHECK(at(23) == 1);
    CHECK(at(48) == 1);
    CHECK(at(50) == 8);
    CHECK(at(112) == 2);
    CHECK(at(113) == 'r');
}

TEST_CASE("a damaged byte anywhere is noticed") {
    Slot slot;
    REQUIRE(encode(test::full_superblock(1 * GiB), slot));
    for (std::size_t i = 0; i < slot.size(); ++i) {
        slot[i] ^= std::byte{0x10};
        const auto result = decode(slot);
        REQUIRE(!result);
        REQUIRE(result.error().kind == ErrorKind::corrupt);
        slot[i] ^= std::byte{0x10};
    }
    CHECK(decode(slot));
}

TEST_CASE("what does not fit is refused") {
    Slot slot;
    Superblock block;
    block.node = std::string(64, 'n');
    CHECK(encode(block, slot).error().kind == ErrorKind::invalid);
    block.node.clear();
    block.lineage.begin(random_id<GenerationId>(), WallTime{}, std::string(64, 'n'),
                        GenerationReason::created);
    CHECK(encode(block, slot).error().kind == ErrorKind::invalid);
}

TEST_CASE("a slot of zeroes says that it was never written") {
    CHECK(decode(Slot{}).error().message == "it was never written");
}

TEST_CASE("a replica may be replaced when it is new or failed, or half filled on a failing disk") {
    Superblock block;
    for (const ReplicaState state : {ReplicaState::up_to_date, ReplicaState::stale}) {
        block.state = state;
        block.media_errors = 3;
        CHECK_FALSE(holds_nothing_of_worth(block));
    }
    block.state = ReplicaState::inconsistent;
    CHECK(holds_nothing_of_worth(block));
    block.media_errors = 0;  // a resync on its way: it ends well when it is left alone
    CHECK_FALSE(holds_nothing_of_worth(block));
    for (const ReplicaState state : {ReplicaState::fresh, ReplicaState::failed}) {
        block.state = state;
        CHECK(holds_nothing_of_worth(block));
    }
}
