// SPDX-License-Identifier: BSD-3-Clause
// Aligned columns. Pure.
#pragma once

#include <string>
#include <vector>

#include "tools/terminal.hpp"

namespace mirror::tools {

struct Cell {
    std::string text;
    Style style = Style::plain;
};

using Row = std::vector<Cell>;

/// One line a row, each starting with `indent`; columns two spaces apart, the last one not padded.
[[nodiscard]] std::string format_table(const std::vector<Row>& rows, const Terminal& terminal,
                                       std::string_view indent = "");

}  // namespace mirror::tools
