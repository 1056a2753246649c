// SPDX-License-Identifier: BSD-3-Clause
#include "write_ledger.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mirror::test {
namespace {

/// The number that each of the block's words holds; none: a mixture.
std::optional<std::uint64_t> word_of(const std::vector<std::byte>& bytes) {
    std::uint64_t first = 0;
    std::memcpy(&first, bytes.data(), sizeof first);
    for (std::size_t at = 0; at < bytes.size(); at += sizeof first) {
        if (std::memcmp(&bytes[at], &first, sizeof first) != 0) {
            return std::nullopt;
        }
    }
    return first;
}

}  // namespace

WriteLedger::Number WriteLedger::begin(Kind kind, ByteRange range) {
    MutexLock lock(mutex_);
    requests_.push_back({.kind = kind, .range = range, .begun = ++clock_});
    return requests_.size() - 1;
}

std::vector<std::byte> WriteLedger::bytes_of(Number number, std::uint64_t length) {
    std::vector<std::byte> bytes(length);
    const std::uint64_t word = number + 1;  // zero is what nobody wrote
    for (std::size_t at = 0; at < length; at += sizeof word) {
        std::memcpy(&bytes[at], &word, sizeof word);
    }
    return bytes;
}

void WriteLedger::end(Number number, bool acknowledged) {
    MutexLock lock(mutex_);
    Request& request = requests_[number];
    if (request.ended != never) {
        return;  // its machine has died meanwhile
    }
    request.ended = ++clock_;
    request.acknowledged = acknowledged;
    if (acknowledged && request.kind == Kind::write_fua) {
        request.durable = true;
    } else if (acknowledged && request.kind == Kind::flush) {
        make_durable(request.begun);
    }
}

void WriteLedger::make_durable(std::size_t before) {
    for (Request& each : requests_) {
        each.durable = each.durable || (each.acknowledged && each.ended < before);
    }
}

void WriteLedger::machine_died(bool lost_power) {
    MutexLock lock(mutex_);
    for (Request& each : requests_) {
        each.ended = each.ended == never ? ++clock_ : each.ended;
        each.acknowledged = each.acknowledged && (each.durable || !lost_power);
    }
}

bool WriteLedger::may_be(std::optional<Number> found, std::uint64_t offset, Promise promise) const {
    const ByteRange here{offset, block};
    const std::size_t ended = found ? requests_[*found].ended : 0;
    return std::none_of(requests_.begin(), requests_.end(), [&](const Request& each) {
        return promised(each, promise) && each.range.overlaps(here) && each.begun > ended;
    });
}

std::string WriteLedger::describe(std::optional<Number> found, std::uint64_t offset,
                                  Promise promise) const {
    std::vector<Number> wanted;
    for (Number i = 0; i < requests_.size(); ++i) {
        if (promised(requests_[i], promise) && requests_[i].range.overlaps({offset, block}) &&
            requests_[i].begun > (found ? requests_[*found].ended : 0)) {
            wanted.push_back(i + 1);
        }
    }
    return fmt::format("the block at {} holds {} and not {}, {} later", offset,
                       found ? fmt::format("request {}", *found + 1) : "zeroes",
                       fmt::join(wanted, " or "),
                       promise == Promise::durable ? "made durable" : "acknowledged");
}

std::optional<std::string> WriteLedger::missing(Store& disk, Promise promise) const {
    std::vector<std::byte> bytes(block);
    for (const std::uint64_t offset : blocks()) {
        if (auto read = disk.read(bytes, offset); !read) {
            return read.error().text();
        }
        const auto word = word_of(bytes);
        MutexLock lock(mutex_);
        if (!word || *word > requests_.size()) {
            return fmt::format("the block at {} holds what nobody wrote", offset);
        }
        bool fits = false;
        std::optional<Number> found;
        if (*word == 0) {
            // As nobody has written it yet, or as one of the zeroings left it.
            fits = may_be(std::nullopt, offset, promise);
            for (Number i = 0; i < requests_.size() && !fits; ++i) {
                fits = requests_[i].kind == Kind::zero &&
                       requests_[i].range.overlaps({offset, block}) && may_be(i, offset, promise);
            }
        } else {
            found = *word - 1;
            fits =
                requests_[*found].range.overlaps({offset, block}) && may_be(found, offset, promise);
        }
        if (!fits) {
            return describe(found, offset, promise);
        }
    }
    return std::nullopt;
}

std::vector<std::uint64_t> WriteLedger::blocks() const {
    std::vector<std::uint64_t> found;
    MutexLock lock(mutex_);
    for (const Request& each : requests_) {
        const bool writes = each.kind != Kind::flush && each.kind != Kind::other;
        for (std::uint64_t at = each.range.offset; writes && at < each.range.end(); at += block) {
            found.push_back(at);
        }
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

}  // namespace mirror::test
