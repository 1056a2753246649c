// SPDX-License-Identifier: BSD-3-Clause
// Which regions (1 MiB) of a replica were written since they were last taken: a set of bits with a
// second, coarser one above it, so that taking is quick however large the volume is. mark() is for
// the path of each write, lock-free; take() for one thread at a time. A mark that is set while it
// is being taken may be found only by a later take(): nothing but the size of a flush's pieces
// depends on it.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/units.hpp"
#include "core/maps/geometry.hpp"

namespace mirror {

class RegionMarks {
  public:
    explicit RegionMarks(std::uint64_t bytes)
        : words_(divide_up(divide_up(bytes, region_size), bits)),
          groups_(divide_up(words_.size(), bits)) {}

    void mark(ByteRange range) noexcept {
        for (std::uint64_t at = range.offset / region_size; at * region_size < range.end(); ++at) {
            set(words_, at);
            set(groups_, at / bits);
        }
    }

    /// Calls `with(region's number)` for each marked one, in order, and takes the marks away.
    template <typename With>
    void take(const With& with) {
        for (std::size_t i = 0; i < groups_.size(); ++i) {
            if (groups_[i].load(std::memory_order_relaxed) == 0) {
                continue;
            }
            for_each_bit(groups_[i].exchange(0), [&](std::size_t word) {
                const std::size_t number = i * bits + word;
                for_each_bit(words_[number].exchange(0),
                             [&](std::size_t bit) { with(number * bits + bit); });
            });
        }
    }

  private:
    static constexpr std::size_t bits = 64;
    using Words = std::vector<std::atomic<std::uint64_t>>;

    static void set(Words& words, std::uint64_t bit) noexcept {
        std::atomic<std::uint64_t>& word = words[bit / bits];
        const std::uint64_t mask = std::uint64_t{1} << (bit % bits);
        if ((word.load(std::memory_order_relaxed) & mask) == 0) {  // mostly it is set already
            word.fetch_or(mask);
        }
    }
    template <typename With>
    static void for_each_bit(std::uint64_t word, const With& with) {
        for (; word != 0; word &= word - 1) {
            with(static_cast<std::size_t>(std::countr_zero(word)));
        }
    }

    Words words_;
    Words groups_;
};

}  // namespace mirror
