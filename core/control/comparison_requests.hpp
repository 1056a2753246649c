// SPDX-License-Identifier: BSD-3-Clause
// The two requests with which one node compares its replica with another before anything is sent:
// which regions may differ (`differing-regions`), and the digests of blocks of 4 KiB
// (`block-digests`). Answered by mirrord for a standby and by the engine for an active. Pure but
// for the reads; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/base/error.hpp"
#include "core/base/id.hpp"
#include "core/maps/bitmap.hpp"
#include "core/store/store.hpp"

namespace mirror::control {

using Json = nlohmann::json;

/// Regions in one `block-digests`: the answer (8 KiB of text each) must fit the mailbox.
inline constexpr std::size_t regions_per_request = 32;

/// `from` in the request: the first region that is wanted. Answers `runs` ([[first, last], …], last
/// one past the end) and `next`, where to ask on, null at the end.
[[nodiscard]] Result<Json> answer_differing_regions(const Json& request, const Bitmap& regions);
/// Adds what an answer names to `regions`; returns its `next`, which is one of them.
[[nodiscard]] Result<std::optional<std::uint64_t>> add_regions(const Json& answer, Bitmap& regions);
/// Adds what a part of VOLUME/changes names, a bit a region from region `first` on. Bits beyond the
/// volume's end are the other side's padding.
void add_listed_regions(std::span<const std::byte> part, std::uint64_t first, Bitmap& regions);

[[nodiscard]] Json ask_block_digests(const SessionId& key,
                                     const std::vector<std::uint64_t>& regions);
/// `key` and `regions` in the request. Answers `digests`: for each region one text, 32 hexadecimal
/// digits a block.
[[nodiscard]] Result<Json> answer_block_digests(const Json& request, Store& store);
/// Sets the blocks of `regions` whose digests differ in the two answers.
[[nodiscard]] Result<void> add_differing_blocks(const Json& ours, const Json& theirs,
                                                const std::vector<std::uint64_t>& regions,
                                                Bitmap& blocks);

}  // namespace mirror::control
