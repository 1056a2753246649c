// SPDX-License-Identifier: BSD-3-Clause
#include "core/maps/bitmap.hpp"

#include <algorithm>
#include <bit>

namespace mirror {
namespace {

constexpr std::uint64_t word_bits = 64;
constexpr std::uint64_t chunk_words = Bitmap::chunk_bits / word_bits;
static_assert(Bitmap::chunk_bits % word_bits == 0);

/// The bits of word number `word` that lie within `range`.
std::uint64_t mask_within(std::uint64_t word, BitRange range) noexcept {
    const std::uint64_t start = word * word_bits;
    std::uint64_t mask = ~std::uint64_t{0};
    if (range.first > start) {
        mask &= mask << (range.first - start);
    }
    if (range.last < start + word_bits) {
        mask &= ~std::uint64_t{0} >> (start + word_bits - range.last);
    }
    return mask;
}

std::uint64_t count_ones(std::uint64_t word) noexcept {
    return static_cast<std::uint64_t>(std::popcount(word));
}

bool is_clear(const Bitmap::Chunk& chunk) noexcept {
    return std::all_of(chunk.begin(), chunk.end(), [](std::uint64_t word) { return word == 0; });
}

/// The words that a range touches, a half-open run.
struct WordRun {
    std::uint64_t first;
    std::uint64_t last;
};

WordRun words_of(BitRange range) noexcept {
    return {range.first / word_bits, divide_up(range.last, word_bits)};
}

BitRange cut(BitRange range, std::uint64_t size) noexcept {
    return {range.first, std::min(range.last, size)};
}

}  // namespace

Bitmap::Bitmap(std::uint64_t size_in_bits)
    : size_(size_in_bits), chunks_(divide_up(size_in_bits, chunk_bits)) {}

bool Bitmap::test(std::uint64_t bit) const noexcept {
    return any({bit, bit + 1});
}

std::uint64_t Bitmap::word(std::uint64_t index) const noexcept {
    const auto& chunk = chunks_[index / chunk_words];
    return chunk ? (*chunk)[index % chunk_words] : 0;
}

bool Bitmap::all(BitRange range) const noexcept {
    range = cut(range, size_);
    if (range.empty()) {
        return true;
    }
    const WordRun words = words_of(range);
    for (std::uint64_t i = words.first; i < words.last; ++i) {
        const std::uint64_t mask = mask_within(i, range);
        if ((word(i) & mask) != mask) {
            return false;
        }
    }
    return true;
}

bool Bitmap::any(BitRange range) const noexcept {
    range = cut(range, size_);
    return !range.empty() && find_set(range.first, range.last) < range.last;
}

std::uint64_t Bitmap::set(BitRange range) {
    range = cut(range, size_);
    if (range.empty()) {
        return 0;
    }
    const WordRun words = words_of(range);
    std::uint64_t changed = 0;
    for (std::uint64_t i = words.first; i < words.last; ++i) {
        auto& chunk = chunks_[i / chunk_words];
        if (!chunk) {
            chunk = std::make_unique<Chunk>();
        }
        std::uint64_t& target = (*chunk)[i % chunk_words];
        const std::uint64_t added = mask_within(i, range) & ~target;
        target |= added;
        changed += count_ones(added);
    }
    count_ += changed;
    return changed;
}

std::uint64_t Bitmap::clear(BitRange range) noexcept {
    range = cut(range, size_);
    if (range.empty()) {
        return 0;
    }
    const std::uint64_t last_chunk = divide_up(range.last, chunk_bits);
    std::uint64_t changed = 0;
    for (std::uint64_t c = range.first / chunk_bits; c < last_chunk; ++c) {
        if (!chunks_[c]) {
            continue;
        }
        const WordRun words = words_of(
            {std::max(range.first, c * chunk_bits), std::min(range.last, (c + 1) * chunk_bits)});
        for (std::uint64_t i = words.first; i < words.last; ++i) {
            std::uint64_t& target = (*chunks_[c])[i % chunk_words];
            const std::uint64_t removed = mask_within(i, range) & target;
            target &= ~removed;
            changed += count_ones(removed);
        }
        if (is_clear(*chunks_[c])) {
            chunks_[c].reset();
        }
    }
    count_ -= changed;
    return changed;
}

void Bitmap::clear_all() noexcept {
    if (count_ == 0) {
        return;
    }
    for (auto& chunk : chunks_) {
        chunk.reset();
    }
    count_ = 0;
}

void Bitmap::merge(const Bitmap& other) {
    const std::uint64_t common = std::min(chunks_.size(), other.chunks_.size());
    for (std::uint64_t c = 0; c < common; ++c) {
        if (!other.chunks_[c]) {
            continue;
        }
        Chunk merged = *other.chunks_[c];
        if (chunks_[c]) {
            for (std::size_t i = 0; i < merged.size(); ++i) {
                merged[i] |= (*chunks_[c])[i];
            }
        }
        set_chunk(c, merged);
    }
}

std::uint64_t Bitmap::find_set(std::uint64_t from, std::uint64_t end) const noexcept {
    while (from < end) {
        const auto& chunk = chunks_[from / chunk_bits];
        if (!chunk) {
            from = (from / chunk_bits + 1) * chunk_bits;
            continue;
        }
        const std::uint64_t rest = word(from / word_bits) >> (from % word_bits);
        if (rest != 0) {
            return std::min(end, from + static_cast<std::uint64_t>(std::countr_zero(rest)));
        }
        from = (from / word_bits + 1) * word_bits;
    }
    return end;
}

std::uint64_t Bitmap::find_clear(std::uint64_t from, std::uint64_t end) const noexcept {
    while (from < end) {
        const std::uint64_t offset = from % word_bits;
        const auto ones =
            static_cast<std::uint64_t>(std::countr_one(word(from / word_bits) >> offset));
        from += ones;
        if (ones < word_bits - offset) {
            break;
        }
    }
    return std::min(from, end);
}

std::optional<BitRange> Bitmap::next_run(std::uint64_t from, std::uint64_t longest) const noexcept {
    if (from >= size_ || longest == 0) {
        return std::nullopt;
    }
    const std::uint64_t first = find_set(from, size_);
    if (first >= size_) {
        return std::nullopt;
    }
    const std::uint64_t limit = longest < size_ - first ? first + longest : size_;
    return BitRange{first, find_clear(first, limit)};
}

std::optional<BitRange> Bitmap::next_run_in(BitRange range) const noexcept {
    range = cut(range, size_);
    if (range.empty()) {
        return std::nullopt;
    }
    const std::uint64_t first = find_set(range.first, range.last);
    if (first >= range.last) {
        return std::nullopt;
    }
    return BitRange{first, find_clear(first, range.last)};
}

const Bitmap::Chunk* Bitmap::chunk(std::uint64_t index) const noexcept {
    return chunks_[index].get();
}

void Bitmap::set_chunk(std::uint64_t index, const Chunk& bits) {
    const std::uint64_t first_word = index * chunk_words;
    Chunk kept = bits;
    std::uint64_t ones = 0;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        const std::uint64_t start = (first_word + i) * word_bits;
        kept[i] &= start < size_ ? mask_within(first_word + i, {0, size_}) : 0;
        ones += count_ones(kept[i]);
    }
    auto& target = chunks_[index];
    if (target) {
        for (std::uint64_t old : *target) {
            count_ -= count_ones(old);
        }
    }
    count_ += ones;
    if (ones == 0) {
        target.reset();
    } else if (target) {
        *target = kept;
    } else {
        target = std::make_unique<Chunk>(kept);
    }
}

}  // namespace mirror
