// SPDX-License-Identifier: BSD-3-Clause
// Random numbers of the model tests: quick, and the same from one seed everywhere.
#pragma once

#include <cstdint>

namespace mirror::test {

/// SplitMix64.
class ModelRandom {
  public:
    explicit ModelRandom(std::uint64_t seed) : state_(seed) {}

    [[nodiscard]] std::uint64_t next() noexcept {
        state_ += 0x9e3779b97f4a7c15U;
        std::uint64_t mixed = state_;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
        return mixed ^ (mixed >> 31);
    }
    [[nodiscard]] std::uint64_t below(std::uint64_t bound) noexcept { return next() % bound; }
    [[nodiscard]] bool one_in(std::uint64_t number) noexcept { return below(number) == 0; }

  private:
    std::uint64_t state_;
};

}  // namespace mirror::test
