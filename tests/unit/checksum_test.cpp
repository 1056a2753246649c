// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/checksum.hpp"

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

using namespace mirror;

namespace {

std::vector<std::byte> random_bytes(std::size_t count) {
    std::mt19937 generator(42);
    std::vector<std::byte> bytes(count);
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(generator());
    }
    return bytes;
}

SessionId session(std::uint8_t first) {
    SessionId id;
    id.bytes[0] = first;
    return id;
}

}  // namespace

TEST_CASE("crc32c gives the values of RFC 3720") {
    std::vector<std::byte> bytes(32);
    CHECK(crc32c(bytes) == 0x8A9136AA);
    CHECK(detail::crc32c_by_table(bytes, 0) == 0x8A9136AA);
    std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
    CHECK(crc32c(bytes) == 0x62A8AB43);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::byte>(i);
    }
    CHECK(crc32c(bytes) == 0x46DD794E);
    CHECK(crc32c(std::as_bytes(std::span(std::string_view("123456789")))) == 0xE3069283);
    CHECK(crc32c({}) == 0);
}

TEST_CASE("the processor's crc32c and the table agree for every length and start") {
    const std::vector<std::byte> bytes = random_bytes(300);
    for (std::size_t start = 0; start < 9; ++start) {
        for (std::size_t length = 0; length < 100; ++length) {
            const auto part = std::span(bytes).subspan(start, length);
            REQUIRE(crc32c(part, 7) == detail::crc32c_by_table(part, 7));
        }
    }
}

TEST_CASE("crc32c chains over parts") {
    const std::vector<std::byte> bytes = random_bytes(1000);
    const std::span<const std::byte> all(bytes);
    for (std::size_t cut : {0UL, 1UL, 7UL, 500UL, 1000UL}) {
        CHECK(crc32c(all.subspan(cut), crc32c(all.first(cut))) == crc32c(all));
    }
}

TEST_CASE("digests agree within a session and differ between sessions and contents") {
    std::vector<std::byte> block = random_bytes(65536);
    const Digester digester(session(1));
    const Digest digest = digester(block);
    CHECK(Digester(session(1))(block) == digest);
    CHECK(Digester(session(2))(block) != digest);
    block[40000] ^= std::byte{1};
    CHECK(digester(block) != digest);
}

TEST_CASE("the digest of a block is part of the protocol and never changes") {
    const std::vector<std::byte> block(65536);
    const Digest digest = Digester(session(1))(block);
    std::string hex;
    for (std::byte byte : digest) {
        hex += fmt::format("{:02x}", std::to_integer<int>(byte));
    }
    CHECK(hex == "2f5753d87c108c9289a74d769706b56d");
}

TEST_CASE("a single byte that is not zero is found wherever it is") {
    for (std::size_t length : {1UL, 2UL, 15UL, 16UL, 17UL, 31UL, 33UL, 100UL}) {
        std::vector<std::byte> bytes(length);
        CHECK(is_zero(bytes));
        for (std::byte& byte : bytes) {
            byte = std::byte{0x80};
            REQUIRE_FALSE(is_zero(bytes));
            byte = std::byte{0};
        }
    }
    CHECK(is_zero({}));
}
