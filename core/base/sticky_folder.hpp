// SPDX-License-Identifier: BSD-3-Clause
// An empty folder of ours that everybody may write to, with the sticky bit, is what a mount of
// tmpfs without mode= makes. It can be made ours alone, instead of being refused. mirrord's start
// calls this, before anything in it is used.
#pragma once

#include <string>

#include "core/base/error.hpp"

namespace mirror {

/// Takes the right to write from others and says so in the log, where `path` is an empty folder of
/// this process's user with the sticky bit, and none that all programs share, such as /tmp; leaves
/// every other one as it is, for others to judge.
[[nodiscard]] Result<void> close_sticky_folder(const std::string& path);

}  // namespace mirror
