// SPDX-License-Identifier: BSD-3-Clause
#include "tools/terminal.hpp"

#include <algorithm>
#include <cstdlib>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/base/foreign_text.hpp"

namespace mirror::tools {
namespace {

bool is_set(const char* variable) {
    const char* value = std::getenv(variable);
    return value != nullptr && *value != '\0';
}

bool is_dumb() {
    const char* name = std::getenv("TERM");
    return name == nullptr || std::string_view(name) == "dumb";
}

std::string_view code_of(Style style) {
    switch (style) {
        case Style::good:
            return "32";
        case Style::warning:
            return "33";
        case Style::bad:
            return "1;31";
        case Style::dim:
            return "2";
        case Style::bold:
            return "1";
        case Style::plain:
            break;
    }
    return "";
}

bool is_continuation(char byte) noexcept {
    return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

}  // namespace

Terminal Terminal::of(int fd, bool no_colour) {
    Terminal terminal;
    terminal.is_tty = ::isatty(fd) == 1 && !is_dumb();
    terminal.colour = terminal.is_tty && !no_colour && !is_set("NO_COLOR");
    winsize size{};
    if (terminal.is_tty && ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        terminal.width = size.ws_col;
    }
    return terminal;
}

std::string Terminal::paint(Style style, std::string_view text) const {
    if (!colour || style == Style::plain || text.empty()) {
        return std::string(text);
    }
    return fmt::format("\x1b[{}m{}\x1b[0m", code_of(style), text);
}

std::string printable(std::string_view text) {
    return without_controls(text, '?');
}

std::size_t display_width(std::string_view text) noexcept {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

std::string cut_to(std::string_view text, std::size_t width) {
    std::size_t columns = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (!is_continuation(text[at]) && columns++ == width) {
            return std::string(text.substr(0, at));
        }
    }
    return std::string(text);
}

}  // namespace mirror::tools
