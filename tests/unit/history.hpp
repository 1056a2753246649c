// SPDX-License-Identifier: BSD-3-Clause
// What was written, answered and flushed, sector by sector, and so what may be found on a disk
// after a loss of power. Belongs to one thread, whose writes to a sector follow each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/base/units.hpp"

namespace mirror::test {

class History {
  public:
    static constexpr std::uint64_t sector = 512;
    enum class Node { alpha, beta };

    explicit History(std::uint64_t size) : sectors_(size / sector) {}

    /// The bytes of a write that is about to be issued.
    [[nodiscard]] std::vector<std::byte> write(ByteRange range) {
        ++newest_;
        std::vector<std::byte> bytes(range.length);
        for_each(range, [&](std::uint64_t number, Sector& at) {
            at.versions.push_back(newest_);
            fill(bytes.data() + (number * sector - range.offset), newest_, number);
        });
        return bytes;
    }
    void zero(ByteRange range) {
        for_each(range, [](std::uint64_t, Sector& at) { at.versions.push_back(zeroes); });
    }
    void answered(ByteRange range) {
        for_each(range, [](std::uint64_t, Sector& at) { at.answered = at.versions.size() - 1; });
    }
    /// An answered FUA change, or with the whole range an answered flush.
    void durable(ByteRange range, Node node) {
        for_each(range, [&](std::uint64_t, Sector& at) {
            (node == Node::alpha ? at.durable_alpha : at.durable_beta) = at.answered;
        });
    }
    [[nodiscard]] ByteRange everything() const { return {0, sectors_.size() * sector}; }

    /// Empty if every sector holds a version that may be there after the node lost its power;
    /// else what is wrong. With `all_answered` nothing that was answered may be missing.
    [[nodiscard]] std::string check(const std::vector<std::byte>& disk, Node node,
                                    bool all_answered) const {
        for (std::uint64_t number = 0; number < sectors_.size(); ++number) {
            const Sector& at = sectors_[number];
            const std::size_t least = all_answered          ? at.answered
                                      : node == Node::alpha ? at.durable_alpha
                                                            : at.durable_beta;
            if (!holds_one_of(disk.data() + number * sector, at, least, number)) {
                return fmt::format("sector {} holds {}, not one of the versions from {} of {}",
                                   number, describe(disk.data() + number * sector), least,
                                   fmt::join(at.versions, ","));
            }
        }
        return {};
    }
    /// From here on what is found on the disk is the past.
    void begin_anew(const std::vector<std::byte>& disk) {
        for (std::uint64_t number = 0; number < sectors_.size(); ++number) {
            std::uint64_t version = zeroes;
            std::memcpy(&version, disk.data() + number * sector, sizeof version);
            sectors_[number] = Sector{{version}};
        }
    }

  private:
    static constexpr std::uint64_t zeroes = 0;
    struct Sector {
        std::vector<std::uint64_t> versions{zeroes};
        std::size_t answered = 0;
        std::size_t durable_alpha = 0;
        std::size_t durable_beta = 0;
    };

    static void fill(std::byte* at, std::uint64_t version, std::uint64_t number) {
        const std::uint64_t words[2] = {version, version == zeroes ? 0 : number};
        for (std::uint64_t i = 0; i < sector; i += sizeof words) {
            std::memcpy(at + i, words, sizeof words);
        }
    }
    static bool holds_one_of(const std::byte* bytes, const Sector& at, std::size_t least,
                             std::uint64_t number) {
        std::vector<std::byte> expected(sector);
        for (std::size_t i = least; i < at.versions.size(); ++i) {
            fill(expected.data(), at.versions[i], number);
            if (std::memcmp(bytes, expected.data(), sector) == 0) {
                return true;
            }
        }
        return false;
    }
    static std::string describe(const std::byte* bytes) {
        std::uint64_t words[2];
        std::memcpy(words, bytes, sizeof words);
        return fmt::format("version {} of sector {}", words[0], words[1]);
    }
    template <typename Act>
    void for_each(ByteRange range, Act act) {
        for (std::uint64_t at = range.offset; at < range.end(); at += sector) {
            act(at / sector, sectors_[at / sector]);
        }
    }

    std::vector<Sector> sectors_;
    std::uint64_t newest_ = 0;
};

}  // namespace mirror::test
