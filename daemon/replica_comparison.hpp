// SPDX-License-Identifier: BSD-3-Clause
// Comparing the replica here with the peer's, wherever they are (in mirrord or in an engine), to
// say and to save what a resync would overwrite. Called from a request's thread.
#pragma once

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// `differing-regions` and `block-digests`, from the replica here or its engine.
[[nodiscard]] Result<Json> answer_comparison(VolumeKeeper& keeper, const Json& request);

/// They differ after half a resize.
struct ComparedSizes {
    std::uint64_t ours = 0;
    std::uint64_t theirs = 0;
};

/// The blocks that differ from the peer's, by digest, in every region that the maps of either side
/// name; in all regions with `everything`. That is all that a resync may overwrite with something
/// else: it looks at no other region.
[[nodiscard]] Result<Bitmap> find_differing_blocks(VolumeKeeper& keeper, const ComparedSizes& sizes,
                                                   bool everything);

}  // namespace mirror::daemon
