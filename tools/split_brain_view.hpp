// SPDX-License-Identifier: BSD-3-Clause
// The evidence of a split brain as two columns, one a node, and the undo files that earlier ones
// left. Pure.
#pragma once

#include <string>

#include "tools/status_view.hpp"

namespace mirror::tools {

/// Empty unless a peer's entry has `split_brain`.
[[nodiscard]] std::string split_brain_lines(const Json& volume, const ViewContext& context);

/// A sentence about the undo files; empty when there are none.
[[nodiscard]] std::string undo_words(const Json& volume, const ViewContext& context);

}  // namespace mirror::tools
