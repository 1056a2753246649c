// SPDX-License-Identifier: BSD-3-Clause
// Bytes in one piece as a Store: faster than the unit tests' disks, and without their faults.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "core/store/store.hpp"
#include "input.hpp"

namespace mirror::fuzz {

class FlatStore final : public Store {
  public:
    explicit FlatStore(std::vector<std::byte> content) : content_(std::move(content)) {}

    [[nodiscard]] std::uint64_t size() const noexcept override { return content_.size(); }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        std::copy_n(at({offset, into.size()}), into.size(), into.begin());
        return {};
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        std::copy(from.begin(), from.end(), at({offset, from.size()}));
        return {};
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space) override {
        std::fill_n(at(range), range.length, std::byte{0});
        return {};
    }
    [[nodiscard]] Result<void> flush() override { return {}; }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        (void)at(range);
        return std::vector<Extent>{{range, false}};
    }

  private:
    [[nodiscard]] std::vector<std::byte>::iterator at(ByteRange range) {
        require(range.fits_in(content_.size()), "a store is used within its size");
        return content_.begin() + static_cast<std::ptrdiff_t>(range.offset);
    }

    std::vector<std::byte> content_;
};

}  // namespace mirror::fuzz
