// SPDX-License-Identifier: BSD-3-Clause
// TOML's own rules. The parser ends at the first mistake against them and speaks of characters; a
// person who left out the quotes of five values wants to hear of five values. So the usual mistakes
// are told in words with the line as it should be, and where that leaves no doubt, the rest is read
// as if it had been written so. Used by the reader of the file only; pure.
#pragma once

#include <optional>
#include <string>

#include <toml++/toml.h>

#include "core/config/mistakes.hpp"

namespace mirror {

/// Without a table where the parser could not continue: then the rest of the text was not read.
[[nodiscard]] std::optional<toml::table> parse_toml(std::string text, const std::string& path,
                                                    Mistakes& mistakes);

}  // namespace mirror
