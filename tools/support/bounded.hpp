// SPDX-License-Identifier: BSD-3-Clause
// Looking at a machine on which anything may hang: a disk, a network filesystem, another program. A
// look that takes too long is given up and named, and what hangs is left behind. Main thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/base/error.hpp"

namespace mirror::tools {

using Look = std::function<Result<std::string>()>;

/// In a thread of its own, which is left behind when it is late: `look` keeps what it uses.
[[nodiscard]] Result<std::string> look_within(std::chrono::milliseconds limit, Look look);

/// What a program prints, stdout and stderr, `most` bytes from its end; a status other than 0 is a
/// line below. Late, it is killed with what it has started.
[[nodiscard]] Result<std::string> output_of(const std::vector<std::string>& arguments,
                                            std::chrono::milliseconds limit, std::size_t most);

/// The same from a file descriptor into another one: for a filter such as gzip.
[[nodiscard]] Result<void> filter_through(const std::vector<std::string>& arguments, int input,
                                          int output, std::chrono::milliseconds limit);

/// A file, whoever's it is: its last `most` bytes.
[[nodiscard]] Result<std::string> end_of_file(const std::string& path, std::size_t most);

}  // namespace mirror::tools
