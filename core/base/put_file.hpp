// SPDX-License-Identifier: BSD-3-Clause
// Small files and folders with the mode that is said here, whatever umask the process was started
// with: a service manager's, a shell's, or none at all. Files that stay
// open are made with trusted_file.hpp. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <sys/types.h>

#include "core/base/error.hpp"

namespace mirror {

/// Replaces what is there: who reads sees the old content or the new one, never a part.
[[nodiscard]] Result<void> put_file(const std::string& path, std::string_view content, mode_t mode);

/// Makes the folder with that mode, and what is missing above it with 0755 at most.
[[nodiscard]] Result<void> make_folder(const std::string& path, mode_t mode);

}  // namespace mirror
