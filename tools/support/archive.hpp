// SPDX-License-Identifier: BSD-3-Clause
// Files by name, as tar(1) has them. Pure, but for write().
#pragma once

#include <string>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"

namespace mirror::tools {

struct ArchiveFile {
    std::string name;  ///< below the archive's folder
    std::string content;
};

/// POSIX ustar. Names, and the folder's, have at most 100 bytes.
[[nodiscard]] std::string tar_of(const std::string& folder, const std::vector<ArchiveFile>& files,
                                 WallTime made_at);

/// The tar, compressed by gzip, in a new file for its owner alone. Nothing stays of one that fails.
[[nodiscard]] Result<void> write_archive(const std::string& path, const std::string& tar);

}  // namespace mirror::tools
