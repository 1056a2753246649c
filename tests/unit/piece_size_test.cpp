// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/piece_size.hpp"

#include <doctest/doctest.h>

using namespace mirror;
using std::chrono::milliseconds;

namespace {

constexpr std::uint64_t bytes_per_second_of_a_slow_link = 10'000;
constexpr unsigned pieces_under_way = 4;

std::chrono::nanoseconds time_over_slow_link(std::uint64_t blocks) {
    return milliseconds(blocks * block_size * pieces_under_way * 1000 /
                        bytes_per_second_of_a_slow_link);
}

}  // namespace

TEST_CASE("a fast link gets whole regions after a few pieces") {
    PieceSize size;
    unsigned pieces = 0;
    for (; size.blocks() < PieceSize::most_blocks; ++pieces) {
        REQUIRE(pieces < 10);
        size.answered(size.blocks(), milliseconds(1));
    }
    size.answered(size.blocks(), milliseconds(1));
    CHECK(size.blocks() == PieceSize::most_blocks);
}

TEST_CASE("a slow link keeps to pieces that are answered in time") {
    PieceSize size;
    for (int i = 0; i < 100; ++i) {
        REQUIRE(time_over_slow_link(size.blocks()) < milliseconds(2000));
        size.answered(size.blocks(), time_over_slow_link(size.blocks()));
    }
}

TEST_CASE("a link that becomes slow gets smaller pieces, down to one block") {
    PieceSize size;
    for (int i = 0; i < 10; ++i) {
        size.answered(size.blocks(), milliseconds(1));
    }
    for (std::uint64_t expected = PieceSize::most_blocks / 2; expected > 0; expected /= 2) {
        size.answered(size.blocks(), milliseconds(300));
        CHECK(size.blocks() == expected);
    }
    size.answered(1, milliseconds(300));
    CHECK(size.blocks() == 1);
}

TEST_CASE("pieces that were under way together change the size once") {
    PieceSize size;
    for (unsigned i = 0; i < pieces_under_way; ++i) {
        size.answered(1, milliseconds(1));
    }
    CHECK(size.blocks() == 2);
}

TEST_CASE("short runs of blocks say nothing of larger pieces") {
    PieceSize size;
    size.answered(1, milliseconds(1));
    size.answered(2, milliseconds(1));
    size.answered(1, milliseconds(1));
    CHECK(size.blocks() == 4);
}
