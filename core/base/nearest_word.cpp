// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/nearest_word.hpp"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace mirror {
namespace {

/// How many letters have to be typed, left out or replaced to make the one of the other.
std::size_t typing_distance(std::string_view from, std::string_view to) {
    std::vector<std::size_t> row(to.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= from.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i);
        for (std::size_t j = 1; j <= to.size(); ++j) {
            const std::size_t replaced = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row.back();
}

}  // namespace

std::string nearest_word(std::string_view typed, std::span<const std::string_view> known) {
    constexpr std::size_t longest = 64;  // a longer one is no mistyped word
    std::string nearest;
    std::size_t least = 1 + typed.size() / 2;  // farther ones have nothing in common with it
    for (const std::string_view word : known) {
        const std::size_t distance =
            typed.size() > longest ? typed.size() : typing_distance(typed, word);
        if (distance < least) {
            least = distance;
            nearest = word;
        }
    }
    return nearest;
}

}  // namespace mirror
