// SPDX-License-Identifier: BSD-3-Clause
// A set of bit numbers over a large space in which most are clear: memory is taken only for
// chunks that have set bits, so that a 16 TiB volume costs nothing until it differs.
// Not thread-safe: the owner's mutex guards it. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/maps/geometry.hpp"

namespace mirror {

class Bitmap {
  public:
    /// Bits per chunk. One chunk is one map sector of the metadata file (496 bytes of bits).
    static constexpr std::uint64_t chunk_bits = std::uint64_t{496} * 8;
    using Chunk = std::array<std::uint64_t, chunk_bits / 64>;

    explicit Bitmap(std::uint64_t size_in_bits);

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    [[nodiscard]] bool test(std::uint64_t bit) const noexcept;
    [[nodiscard]] bool all(BitRange range) const noexcept;
    [[nodiscard]] bool any(BitRange range) const noexcept;

    /// Ranges are cut at size(). Return how many bits changed.
    std::uint64_t set(BitRange range);
    std::uint64_t clear(BitRange range) noexcept;
    void set_all() { set({0, size_}); }
    void clear_all() noexcept;
    /// Sets every bit that is set in `other` (same size).
    void merge(const Bitmap& other);

    /// The first run of set bits at or after `from`, at most `longest` bits long.
    [[nodiscard]] std::optional<BitRange> next_run(std::uint64_t from,
                                                   std::uint64_t longest) const noexcept;
    /// The first run of set bits within `range`, cut at its end; looks no further.
    [[nodiscard]] std::optional<BitRange> next_run_in(BitRange range) const noexcept;

    // For the metadata file and the `changes` export.
    [[nodiscard]] std::uint64_t chunk_count() const noexcept { return chunks_.size(); }
    /// Null where no bit of the chunk is set.
    [[nodiscard]] const Chunk* chunk(std::uint64_t index) const noexcept;
    /// Replaces a chunk's bits; bits beyond size() are dropped.
    void set_chunk(std::uint64_t index, const Chunk& bits);

  private:
    [[nodiscard]] std::uint64_t word(std::uint64_t index) const noexcept;
    /// The first set (clear) bit in [from, end), or `end`.
    [[nodiscard]] std::uint64_t find_set(std::uint64_t from, std::uint64_t end) const noexcept;
    [[nodiscard]] std::uint64_t find_clear(std::uint64_t from, std::uint64_t end) const noexcept;

    std::uint64_t size_;
    std::uint64_t count_ = 0;
    std::vector<std::unique_ptr<Chunk>> chunks_;
};

}  // namespace mirror
