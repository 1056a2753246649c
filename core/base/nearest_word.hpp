// SPDX-License-Identifier: BSD-3-Clause
// "Did you mean …?": which of the known words somebody probably wanted to type. Pure; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace mirror {

/// The known word that `typed` is closest to; empty: none has enough in common with it.
[[nodiscard]] std::string nearest_word(std::string_view typed,
                                       std::span<const std::string_view> known);

}  // namespace mirror
