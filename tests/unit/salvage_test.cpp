// SPDX-License-Identifier: BSD-3-Clause
// What is read of a region with bad sectors, in which order, and what is not read again.
#include "core/engine/salvage.hpp"

#include <doctest/doctest.h>

#include "memory_store.hpp"

using namespace mirror;
using namespace mirror::test;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t size = 2 * MiB + 6 * KiB;

class SteppingClock final : public Clock {
  public:
    [[nodiscard]] SteadyTime steady_now() const override { return now_ += step; }
    [[nodiscard]] WallTime wall_now() const override { return {}; }
    std::chrono::milliseconds step{0};  ///< at each look at the clock

  private:
    mutable SteadyTime now_{};
};

/// A disk with bad sectors, and what the salvage of it said.
struct Scene {
    MemoryDisk disk{size};
    std::unique_ptr<Store> store = disk.open();
    SteppingClock clock;
    std::vector<ByteRange> reported;
    Salvage salvage{*store, clock,
                    [this](ByteRange range, const Error&) { reported.push_back(range); }};
    std::vector<std::byte> data = std::vector<std::byte>(region_size);
    Bitmap missing{region_size / block_size};
    std::atomic<bool> stop{false};

    Scene() {
        for (std::uint64_t at = 0; at < size; at += block_size) {
            const std::vector<std::byte> block(std::min(block_size, size - at), byte_of(at));
            REQUIRE(store->write(block, at));
        }
    }
    static std::byte byte_of(std::uint64_t at) {
        return static_cast<std::byte>(at / block_size % 251 + 1);
    }
    [[nodiscard]] Result<void> read(std::uint64_t region, const std::vector<BitRange>& wanted) {
        const ByteRange range = bytes_of({region, region + 1}, region_size, size);
        return salvage.read(range, wanted, std::span(data).first(range.length), missing, stop);
    }
    [[nodiscard]] bool holds(std::uint64_t region, std::uint64_t block_of_region) const {
        return data[block_of_region * block_size] ==
               byte_of(region * region_size + block_of_region * block_size);
    }
};

}  // namespace

TEST_CASE("a region that can be read costs one read") {
    Scene scene;
    REQUIRE(scene.read(0, {{0, 256}}));
    CHECK(scene.disk.bytes_read() == region_size);
    CHECK(scene.missing.empty());
    CHECK(scene.holds(0, 255));
    CHECK_FALSE(scene.salvage.cause());
}

TEST_CASE("all but the blocks with a bad sector is read") {
    Scene scene;
    scene.disk.make_bad({MiB + 10 * block_size + 512, 512});
    scene.disk.make_bad({MiB + 64 * block_size - 512, 1024});
    REQUIRE(scene.read(1, {{256, 512}}));
    CHECK(scene.missing.count() == 3);
    for (const std::uint64_t block : {10U, 63U, 64U}) {
        CHECK(scene.missing.test(block));
    }
    for (const std::uint64_t block : {0U, 9U, 11U, 62U, 65U, 255U}) {
        CHECK(scene.holds(1, block));
    }
    CHECK(scene.reported == std::vector<ByteRange>{{MiB + 10 * block_size, block_size},
                                                   {MiB + 63 * block_size, 2 * block_size}});
    REQUIRE(scene.salvage.cause());
    CHECK(scene.salvage.cause()->kind == ErrorKind::io);
}

TEST_CASE("what is known to be unreadable is not read again") {
    Scene scene;
    scene.disk.make_bad({10 * block_size, 512});
    REQUIRE(scene.read(0, {{0, 256}}));
    const std::uint64_t failed = scene.disk.failed_reads();
    CHECK(failed == 3);  // the region, the step, the block
    const auto left = scene.salvage.worth_reading({{0, 9}, {10, 11}, {9, 12}});
    CHECK(left == std::vector<BitRange>{{0, 9}, {9, 10}, {11, 12}});
    const std::vector<BitRange> elsewhere{{300, 301}};
    CHECK(scene.salvage.worth_reading(elsewhere) == elsewhere);
    REQUIRE(scene.read(0, left));
    CHECK(scene.disk.failed_reads() == failed);
    CHECK(scene.reported.size() == 1);
    CHECK(scene.missing.test(10));
    CHECK(scene.missing.test(200));  // was not wanted
    CHECK_FALSE(scene.missing.test(11));
}

TEST_CASE("only what is wanted is searched") {
    Scene scene;
    scene.disk.make_bad({10 * block_size, 512});
    REQUIRE(scene.read(0, {{200, 202}}));
    CHECK(scene.reported.empty());
    CHECK_FALSE(scene.salvage.cause());
    CHECK(scene.holds(0, 201));
    CHECK(scene.missing.count() == 254);
}

TEST_CASE("the last block of the volume may be a short one") {
    Scene scene;
    scene.disk.make_bad({2 * MiB + 4 * KiB, 512});
    REQUIRE(scene.read(2, {{512, 514}}));
    CHECK(scene.reported == std::vector<ByteRange>{{2 * MiB + 4 * KiB, 2 * KiB}});
    CHECK(scene.missing.count() == 1);
    CHECK(scene.holds(2, 0));
}

TEST_CASE("a search takes its time only, gets further each time, and loses nothing") {
    Scene scene;
    scene.disk.make_bad({0, MiB});
    SUBCASE("a disk that takes its time too") {
        scene.clock.step = 300ms;
    }
    SUBCASE("a disk that takes longer than that for one read") {
        scene.clock.step = 1min;
    }
    std::uint64_t looks = 0;
    while (true) {
        const auto left = scene.salvage.worth_reading({{0, 256}});
        if (left.empty()) {
            break;
        }
        REQUIRE(scene.read(0, left));
        REQUIRE(scene.missing.count() == 256);
        REQUIRE(++looks <= 256);
    }
    CHECK(looks > 20);
    std::uint64_t bytes = 0;
    for (const ByteRange& range : scene.reported) {
        bytes += range.length;
    }
    CHECK(bytes == MiB);
    CHECK(scene.disk.failed_reads() <= 1 + 16 + 256);
}

TEST_CASE("a disk that fails as a whole is given up") {
    Scene scene;
    Salvage salvage(
        *scene.store, scene.clock, [](ByteRange, const Error&) {}, 8 * KiB);
    scene.disk.make_bad({0, 12 * KiB});
    const std::span<std::byte> data(scene.data);
    REQUIRE(salvage.read({0, MiB}, {{0, 2}}, data, scene.missing, scene.stop));
    CHECK_FALSE(salvage.has_too_many());
    REQUIRE(salvage.read({0, MiB}, {{2, 3}}, data, scene.missing, scene.stop));
    CHECK(salvage.has_too_many());
}

TEST_CASE("a stop ends a search") {
    Scene scene;
    scene.disk.make_bad({0, MiB});
    scene.stop = true;
    REQUIRE(scene.read(0, {{0, 256}}));
    CHECK(scene.disk.failed_reads() <= 3);
    CHECK(scene.missing.count() == 256);
}

TEST_CASE("what is no error of the medium is an error") {
    Scene scene;
    const auto read = scene.salvage.read({0, MiB}, {{0, 256}}, std::span(scene.data).first(MiB),
                                         scene.missing, scene.stop);
    CHECK(read);
    const auto beyond = scene.salvage.read(
        {2 * MiB, MiB}, {{512, 514}}, std::span(scene.data).first(MiB), scene.missing, scene.stop);
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().kind == ErrorKind::invalid);
}
