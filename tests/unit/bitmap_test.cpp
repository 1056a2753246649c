// SPDX-License-Identifier: BSD-3-Clause
#include "core/maps/bitmap.hpp"

#include <random>
#include <set>

#include <doctest/doctest.h>

using namespace mirror;

namespace {

/// Every question that a Bitmap answers, asked of a std::set.
struct Model {
    std::uint64_t size;
    std::set<std::uint64_t> bits{};

    std::uint64_t set(BitRange range) {
        std::uint64_t changed = 0;
        for (std::uint64_t bit = range.first; bit < std::min(range.last, size); ++bit) {
            changed += bits.insert(bit).second ? 1U : 0U;
        }
        return changed;
    }
    std::uint64_t clear(BitRange range) {
        std::uint64_t changed = 0;
        for (std::uint64_t bit = range.first; bit < std::min(range.last, size); ++bit) {
            changed += bits.erase(bit);
        }
        return changed;
    }
    [[nodiscard]] std::uint64_t count_in(BitRange range) const {
        std::uint64_t count = 0;
        for (auto it = bits.lower_bound(range.first); it != bits.end() && *it < range.last; ++it) {
            ++count;
        }
        return count;
    }
    [[nodiscard]] std::optional<BitRange> next_run(std::uint64_t from,
                                                   std::uint64_t longest) const {
        auto it = bits.lower_bound(from);
        if (it == bits.end()) {
            return std::nullopt;
        }
        BitRange run{*it, *it + 1};
        while (run.last - run.first < longest && bits.contains(run.last)) {
            ++run.last;
        }
        return run;
    }
};

void check_equal(const Bitmap& bitmap, const Model& model) {
    REQUIRE(bitmap.count() == model.bits.size());
    REQUIRE(bitmap.empty() == model.bits.empty());
    std::uint64_t from = 0;
    std::uint64_t seen = 0;
    while (const auto run = bitmap.next_run(from, bitmap.size())) {
        REQUIRE(model.count_in(*run) == run->last - run->first);
        seen += run->last - run->first;
        from = run->last;
    }
    REQUIRE(seen == model.bits.size());
}

}  // namespace

TEST_CASE("a bitmap behaves as a set of numbers does") {
    constexpr std::uint64_t chunk = Bitmap::chunk_bits;
    for (std::uint64_t size : {std::uint64_t{1}, std::uint64_t{63}, std::uint64_t{64}, chunk - 1,
                               chunk, 3 * chunk + 17}) {
        CAPTURE(size);
        std::mt19937_64 random(size);
        const auto below = [&](std::uint64_t limit) { return random() % limit; };
        Bitmap bitmap(size);
        Model model{size};
        for (int step = 0; step < 2000; ++step) {
            const std::uint64_t first = below(size);
            const std::uint64_t longest = step % 3 == 0 ? size + 10 : 70;
            const BitRange range{first, first + below(longest)};
            if (below(2) == 0) {
                REQUIRE(bitmap.set(range) == model.set(range));
            } else {
                REQUIRE(bitmap.clear(range) == model.clear(range));
            }
            const std::uint64_t other_first = below(size);
            const BitRange other{other_first, std::min(size, other_first + 1 + below(130))};
            const std::uint64_t inside = model.count_in(other);
            REQUIRE(bitmap.any(other) == (inside > 0));
            REQUIRE(bitmap.all(other) == (inside == other.last - other.first));
            REQUIRE(bitmap.test(first) == model.bits.contains(first));
            const std::uint64_t limit = 1 + below(100);
            REQUIRE(bitmap.next_run(first, limit) == model.next_run(first, limit));
            if (step % 100 == 0) {
                check_equal(bitmap, model);
            }
        }
        check_equal(bitmap, model);
    }
}

TEST_CASE("a volume of 16 TiB takes memory only where bits are set") {
    Bitmap bitmap(divide_up(16 * TiB, block_size));
    const std::uint64_t last = bitmap.size() - 1;
    CHECK(bitmap.set({last, last + 1}) == 1);
    CHECK(bitmap.next_run(0, 100) == BitRange{last, last + 1});
    CHECK(bitmap.chunk(bitmap.chunk_count() - 1) != nullptr);
    CHECK(bitmap.chunk(0) == nullptr);
    CHECK(bitmap.clear({0, bitmap.size()}) == 1);
    CHECK(bitmap.chunk(bitmap.chunk_count() - 1) == nullptr);
}

TEST_CASE("ranges are cut at the end") {
    Bitmap bitmap(100);
    CHECK(bitmap.set({90, ~std::uint64_t{0}}) == 10);
    CHECK(bitmap.set({200, 300}) == 0);
    CHECK(bitmap.all({95, 1000}));
    CHECK(!bitmap.any({100, 1000}));
    CHECK(!bitmap.test(100));
    CHECK(!bitmap.next_run(100, 5));
    CHECK(bitmap.clear({0, 1000}) == 10);
    CHECK(bitmap.empty());
    bitmap.set_all();
    CHECK(bitmap.count() == 100);
    bitmap.clear_all();
    CHECK(bitmap.empty());
}

TEST_CASE("merging keeps both") {
    Bitmap ours(10000);
    Bitmap theirs(10000);
    ours.set({0, 10});
    theirs.set({5, 15});
    theirs.set({9000, 9001});
    ours.merge(theirs);
    CHECK(ours.count() == 16);
    CHECK(ours.all({0, 15}));
    CHECK(ours.test(9000));
    CHECK(theirs.count() == 11);
}

TEST_CASE("a chunk put in drops what lies beyond the end") {
    Bitmap bitmap(Bitmap::chunk_bits + 5);
    Bitmap::Chunk ones;
    ones.fill(~std::uint64_t{0});
    bitmap.set_chunk(1, ones);
    CHECK(bitmap.count() == 5);
    bitmap.set_chunk(0, ones);
    bitmap.set_chunk(0, ones);
    CHECK(bitmap.count() == bitmap.size());
    bitmap.set_chunk(0, Bitmap::Chunk{});
    CHECK(bitmap.count() == 5);
    CHECK(bitmap.chunk(0) == nullptr);
}

TEST_CASE("a run within a range is cut at its end, and what is behind it is not seen") {
    Bitmap bits(3 * Bitmap::chunk_bits);
    CHECK_FALSE(bits.next_run_in({0, bits.size()}));
    bits.set({100, 200});
    bits.set({2 * Bitmap::chunk_bits - 5, 3 * Bitmap::chunk_bits});
    CHECK(bits.next_run_in({0, 150}) == BitRange{100, 150});
    CHECK(bits.next_run_in({150, 1000}) == BitRange{150, 200});
    CHECK_FALSE(bits.next_run_in({0, 100}));
    CHECK_FALSE(bits.next_run_in({200, 2 * Bitmap::chunk_bits - 5}));
    CHECK(bits.next_run_in({200, 2 * Bitmap::chunk_bits - 4}) ==
          BitRange{2 * Bitmap::chunk_bits - 5, 2 * Bitmap::chunk_bits - 4});
    CHECK(bits.next_run_in({200, 9 * Bitmap::chunk_bits}) ==
          BitRange{2 * Bitmap::chunk_bits - 5, 3 * Bitmap::chunk_bits});
    CHECK_FALSE(bits.next_run_in({150, 150}));
    CHECK_FALSE(bits.next_run_in({bits.size(), bits.size() + 9}));
}
