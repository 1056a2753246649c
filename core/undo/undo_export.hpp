// SPDX-License-Identifier: BSD-3-Clause
// Gives the saved blocks back: as a sparse image of the volume's size, or laid over a copy of the
// volume. Main thread of mirrorctl.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/undo/undo_file.hpp"

namespace mirror {

struct UndoExport {
    std::uint64_t written_bytes = 0;
    /// Saved, but damaged since: not written. Empty when all is well.
    std::vector<ByteRange> damaged;
};

/// Makes `path` (which must not exist): saved blocks at their offsets, holes elsewhere. Durable
/// when it returns.
[[nodiscard]] Result<UndoExport> export_image(const UndoFile& undo, const std::string& path);

/// Writes the saved blocks into `path`, a file or device of at least the volume's size: over a copy
/// of the kept data that makes what the losing node had.
[[nodiscard]] Result<UndoExport> export_over(const UndoFile& undo, const std::string& path);

}  // namespace mirror
