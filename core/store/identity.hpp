// SPDX-License-Identifier: BSD-3-Clause
// What a backing is beside its path: so that another file or disk under the same path is known, and
// the same one that somebody has written to meanwhile. A path is only where to look. Any thread;
// may wait for a filesystem.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/error.hpp"

namespace mirror {

/// At most this many bytes; a longer one is cut.
inline constexpr std::size_t longest_identity = 120;

/// Of a file its inode and birth time; of a device what the kernel knows it by for good: a dm UUID,
/// a WWN or serial number (with the partition), the file behind a loop device. Not the number of a
/// device or filesystem, which may be another one after a boot. Empty: it has nothing of the kind.
[[nodiscard]] Result<std::string> identity_of(int descriptor, const std::string& path);

/// The same of what is at `path` now. `not_found` when nothing is.
[[nodiscard]] Result<std::string> identity_at(const std::string& path);

/// A number that is another one after anything was written to a file, or its metadata were
/// changed, by whomever: its change time in nanoseconds. 0: a device, which has none.
[[nodiscard]] Result<std::uint64_t> change_mark(int descriptor, const std::string& path);

}  // namespace mirror
