// SPDX-License-Identifier: BSD-3-Clause
#include "tools/table.hpp"

#include <algorithm>

namespace mirror::tools {
namespace {

std::vector<std::size_t> column_widths(const std::vector<Row>& rows) {
    std::vector<std::size_t> widths;
    for (const Row& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t column = 0; column < row.size(); ++column) {
            widths[column] = std::max(widths[column], display_width(row[column].text));
        }
    }
    return widths;
}

std::size_t used_columns(const Row& row) {
    std::size_t used = row.size();
    while (used > 0 && row[used - 1].text.empty()) {
        --used;
    }
    return used;
}

}  // namespace

std::string format_table(const std::vector<Row>& rows, const Terminal& terminal,
                         std::string_view indent) {
    const std::vector<std::size_t> widths = column_widths(rows);
    std::string text;
    for (const Row& row : rows) {
        text += indent;
        const std::size_t used = used_columns(row);
        for (std::size_t column = 0; column < used; ++column) {
            const Cell& cell = row[column];
            text += terminal.paint(cell.style, cell.text);
            if (column + 1 < used) {
                text.append(widths[column] - display_width(cell.text) + 2, ' ');
            }
        }
        text += '\n';
    }
    return text;
}

}  // namespace mirror::tools
