// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/transfer.hpp"

#include <vector>

#include <doctest/doctest.h>

using namespace mirror;

namespace {

/// Digest blocks: a letter is data, a dot is zeroes.
std::vector<std::byte> blocks(std::string_view kinds) {
    std::vector<std::byte> data(kinds.size() * digest_block_size);
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        if (kinds[i] != '.') {
            // One byte makes all of the block data.
            data[(i + 1) * digest_block_size - 1] = std::byte{1};
        }
    }
    return data;
}

/// The commands that `data` becomes, in blocks: "3z" are three as zeroes.
std::string commands(std::span<const std::byte> data) {
    std::string text;
    while (!data.empty()) {
        const Part part = first_part(data);
        REQUIRE(part.length > 0);
        text +=
            std::to_string(divide_up(part.length, digest_block_size)) + (part.zero ? "z " : " ");
        data = data.subspan(part.length);
    }
    return text;
}

}  // namespace

TEST_CASE("zeroes are sent as zeroes, in one command however many there are") {
    CHECK(commands(blocks("................")) == "16z ");
    CHECK(commands(blocks("aa..a.aaa")) == "2 2z 1 1z 3 ");
    CHECK(commands(blocks("..a")) == "2z 1 ");
}

TEST_CASE("data is sent in commands of 256 KiB at most") {
    CHECK(commands(blocks("aaaaaaaaaaaaaaaa")) == "4 4 4 4 ");
    CHECK(commands(blocks("aaaaa.")) == "4 1 1z ");
}

TEST_CASE("a block that is not whole is zeroes or data as what there is of it") {
    const auto data = blocks("aa.");
    CHECK(commands(std::span(data).first(digest_block_size + 4096)) == "1 1z ");
    CHECK(commands(std::span(data).subspan(digest_block_size - 4096, 8192)) == "1 ");
    CHECK(commands(std::span(data).last(4096)) == "1z ");
}
