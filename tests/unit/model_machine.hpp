// SPDX-License-Identifier: BSD-3-Clause
// A machine of the model test: a data disk and a metadata disk in flat memory, made to be quick,
// that remember what was not flushed; and a fuse, after so many accesses of which the process or
// the power dies in the middle of whatever runs. One thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "core/maps/geometry.hpp"
#include "core/store/store.hpp"
#include "model_random.hpp"

namespace mirror::test {

/// A piece of data whose writes are told apart by version numbers. There are few: a region has two
/// blocks that matter, in different digest blocks, with two units each. The rest stays zero.
inline constexpr std::size_t model_regions = 3;
inline constexpr std::size_t units_per_region = 4;
inline constexpr std::size_t model_units = model_regions * units_per_region;
inline constexpr std::uint64_t unit_bytes = block_size / 2;
inline constexpr std::uint64_t model_volume_size = model_regions * region_size;

using Version = std::uint32_t;
using Versions = std::array<Version, model_units>;

[[nodiscard]] constexpr std::uint64_t offset_of_unit(std::size_t unit) noexcept {
    return unit / units_per_region * region_size + unit % units_per_region / 2 * digest_block_size +
           unit % 2 * unit_bytes;
}

/// What ends a process or a machine.
enum class Death { none, process, power };

/// Dies at an access; from then on nothing reaches the disks.
class Fuse {
  public:
    void arm(unsigned accesses, Death death) {
        left_ = accesses;
        death_ = death;
    }
    void blow(Death death) {
        if (blown_ == Death::none) {
            blown_ = death;
        }
    }
    void replace() { *this = Fuse{}; }
    [[nodiscard]] bool armed() const noexcept { return death_ != Death::none; }
    [[nodiscard]] Death blown() const noexcept { return blown_; }
    /// One access: false once it is over.
    [[nodiscard]] bool access() {
        if (blown_ == Death::none && death_ != Death::none && left_-- == 0) {
            blown_ = death_;
        }
        return blown_ == Death::none;
    }

  private:
    unsigned left_ = 0;
    Death death_ = Death::none;
    Death blown_ = Death::none;
};

/// The data disk: a version a unit.
class DataDisk {
  public:
    [[nodiscard]] const Versions& now() const noexcept { return now_; }
    [[nodiscard]] bool unflushed(std::size_t unit) const noexcept { return unflushed_[unit] != 0; }
    void write(std::size_t unit, Version version) {
        now_[unit] = version;
        ++unflushed_[unit];
        pending_.push_back({unit, version});
    }
    void flush() {
        durable_ = now_;
        forget_pending();
    }
    /// Any of the writes since the last flush may have reached the disk, in any order.
    void lose_power(ModelRandom& random) {
        const unsigned keep_of_four = static_cast<unsigned>(random.below(5));
        for (const auto& [unit, version] : pending_) {
            if (random.below(4) < keep_of_four) {
                durable_[unit] = version;
            }
        }
        now_ = durable_;
        forget_pending();
    }

  private:
    void forget_pending() {
        pending_.clear();
        unflushed_.fill(0);
    }

    Versions now_{};
    Versions durable_{};
    std::array<unsigned, model_units> unflushed_{};
    std::vector<std::pair<std::size_t, Version>> pending_;
};

/// The metadata disk, sector by sector.
class MetaDisk {
  public:
    static constexpr std::size_t sector = 512;

    explicit MetaDisk(std::size_t size) : now_(size), durable_(size) {}
    [[nodiscard]] std::size_t size() const noexcept { return now_.size(); }
    [[nodiscard]] const std::byte* at(std::uint64_t offset) const { return &now_[offset]; }
    void write(std::span<const std::byte> from, std::uint64_t offset) {
        std::memcpy(&now_[offset], from.data(), from.size());
        for (std::uint64_t at = offset; at < offset + from.size(); at += sector) {
            pending_.push_back(at);
            const auto* bytes = &now_[at];
            arena_.insert(arena_.end(), bytes, bytes + sector);
        }
    }
    void flush() {
        for (const std::uint64_t at : pending_) {
            std::memcpy(&durable_[at], &now_[at], sector);
        }
        pending_.clear();
        arena_.clear();
    }
    void lose_power(ModelRandom& random) {
        const unsigned keep_of_four = static_cast<unsigned>(random.below(5));
        for (std::size_t i = 0; i < pending_.size(); ++i) {
            if (random.below(4) < keep_of_four) {
                std::memcpy(&durable_[pending_[i]], &arena_[i * sector], sector);
            }
        }
        now_ = durable_;
        pending_.clear();
        arena_.clear();
    }
    void wipe() {
        std::fill(now_.begin(), now_.end(), std::byte{});
        durable_ = now_;
        pending_.clear();
        arena_.clear();
    }

  private:
    std::vector<std::byte> now_;
    std::vector<std::byte> durable_;
    std::vector<std::uint64_t> pending_;
    std::vector<std::byte> arena_;
};

struct ModelMachine {
    explicit ModelMachine(std::size_t meta_size) : meta(meta_size) {}

    [[nodiscard]] std::unique_ptr<Store> open_disk();
    [[nodiscard]] std::unique_ptr<Store> open_meta();
    /// Ends what the fuse began.
    void lose_power(ModelRandom& random) {
        disk.lose_power(random);
        meta.lose_power(random);
    }

    DataDisk disk;
    MetaDisk meta;
    Fuse fuse;
    std::vector<std::byte> scratch = std::vector<std::byte>(region_size);
};

}  // namespace mirror::test
