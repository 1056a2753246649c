// SPDX-License-Identifier: BSD-3-Clause
// Words of peers, hooks and clients on their way to a terminal or a log: what could move a cursor,
// start a line, change colours or the order in which letters are shown is taken out. That is C0 and
// DEL, C1 (U+0080 to U+009F; U+009B is an escape sequence's beginning), the separators of lines
// and the marks of direction (bidi); and each byte that is no UTF-8, which a terminal may take for
// C1. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace mirror {

/// With `instead` for each such character or byte. Never longer than the text.
[[nodiscard]] std::string without_controls(std::string_view text, char instead);
/// A JSON text, whose strings alone may hold such characters: escaped there as \uXXXX, so that it
/// means the same. What is not UTF-8 becomes '?'; its line ends and spaces stay.
[[nodiscard]] std::string json_without_controls(std::string_view json);

}  // namespace mirror
