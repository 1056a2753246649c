// SPDX-License-Identifier: BSD-3-Clause
// Whether the backing that was opened is the one that the metadata speak of, as it was left: pure
// functions on the superblock. Used by mirrord and the engine when they open a replica. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "core/meta/superblock.hpp"

namespace mirror {

enum class BackingVerdict {
    as_left,     ///< nothing speaks against it
    first_seen,  ///< nothing was known of it yet
    touched,     ///< the same one, and it was written to while it was closed
    another,     ///< another file or disk
};

/// `identity` and `mark` of the backing as it is opened now (core/store/identity.hpp).
[[nodiscard]] BackingVerdict judge_backing(const Superblock& block, const std::string& identity,
                                           std::uint64_t mark);
/// What was found, for people: a sentence that begins with `path`.
[[nodiscard]] std::string describe_verdict(BackingVerdict verdict, const Superblock& block,
                                           const std::string& path, const std::string& identity);

/// The metadata speak of this backing from now on. With `doubtful` they do not say what it holds:
/// it is no source, and compared as a whole.
void adopt_backing(Superblock& block, const std::string& identity, bool doubtful);
/// Somebody is about to write to it.
void open_backing(Superblock& block);
/// Nobody writes to it any more, and all of it is durable.
void close_backing(Superblock& block, std::uint64_t mark);

}  // namespace mirror
