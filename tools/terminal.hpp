// SPDX-License-Identifier: BSD-3-Clause
// What may be printed where: colours and redrawing only on a terminal whose owner wants them
// (NO_COLOR, --no-color, TERM=dumb). Values; main thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mirror::tools {

enum class Style { plain, good, warning, bad, dim, bold };

struct Terminal {
    bool is_tty = false;
    bool colour = false;
    std::size_t width = 100;

    /// What is at the other end of this file descriptor.
    [[nodiscard]] static Terminal of(int fd, bool no_colour);
    /// The text in that style; unchanged without colours.
    [[nodiscard]] std::string paint(Style style, std::string_view text) const;
};

/// The text with control characters replaced: what a peer sends must not steer a terminal.
[[nodiscard]] std::string printable(std::string_view text);
/// Columns that the text takes: code points of UTF-8.
[[nodiscard]] std::size_t display_width(std::string_view text) noexcept;
/// The first `width` columns.
[[nodiscard]] std::string cut_to(std::string_view text, std::size_t width);

}  // namespace mirror::tools
