// SPDX-License-Identifier: BSD-3-Clause
// Takes an input apart into the numbers and texts that a target needs: whatever it is, there is a
// value. Not thread-safe.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "target.hpp"

namespace mirror::fuzz {

class Input {
  public:
    explicit Input(Bytes bytes) : rest_(bytes) {}

    [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }

    /// Little-endian; what is missing counts as zero.
    template <std::unsigned_integral T>
    T number() {
        const Bytes part = bytes(sizeof(T));
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < part.size(); ++i) {
            value |= std::to_integer<std::uint64_t>(part[i]) << (8 * i);
        }
        return static_cast<T>(value);
    }
    bool flag() { return (number<std::uint8_t>() & 1U) != 0; }

    /// At most `most`.
    Bytes bytes(std::size_t most) {
        const Bytes part = rest_.first(std::min(most, rest_.size()));
        rest_ = rest_.subspan(part.size());
        return part;
    }
    Bytes rest() { return bytes(rest_.size()); }
    /// Up to the next zero byte, which goes with it.
    std::string_view text() {
        const auto end = std::find(rest_.begin(), rest_.end(), std::byte{0});
        const Bytes part = bytes(static_cast<std::size_t>(end - rest_.begin()));
        (void)bytes(1);
        return {reinterpret_cast<const char*>(part.data()), part.size()};
    }

  private:
    Bytes rest_;
};

[[nodiscard]] inline std::string_view as_text(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A promise of the code under test.
inline void require(bool holds, const char* promise) {
    if (!holds) {
        std::fprintf(stderr, "broken: %s\n", promise);
        std::abort();
    }
}

/// Overwrites parts of a good file: an offset of two bytes, a length of one, that many bytes, and
/// so on. Mutations of a whole file would mostly meet its checksums.
inline void patch(std::span<std::byte> file, Input& input) {
    while (!input.at_end() && !file.empty()) {
        const std::size_t at = input.number<std::uint16_t>() % file.size();
        const Bytes part = input.bytes(input.number<std::uint8_t>());
        std::copy_n(part.begin(), std::min(part.size(), file.size() - at),
                    file.begin() + static_cast<std::ptrdiff_t>(at));
    }
}

/// As a file that was not written to its end.
inline void cut_off(std::vector<std::byte>& file, std::uint64_t bytes) {
    const auto kept =
        static_cast<std::ptrdiff_t>(file.size() - std::min<std::uint64_t>(bytes, file.size()));
    file.erase(file.begin() + kept, file.end());
}

}  // namespace mirror::fuzz
