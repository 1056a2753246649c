// SPDX-License-Identifier: BSD-3-Clause
// Lines for a person on stderr, one write() each so that threads do not mix. Where
// $JOURNAL_STREAM says that stderr is the journal, they carry systemd's "<N>" priority prefix
// (sd-daemon(3)); otherwise the time. Control characters become spaces. Any thread.
#pragma once

#include <string_view>

#include <fmt/format.h>

namespace mirror {

enum class LogLevel { debug, info, warning, error };

/// Debug lines are dropped unless this was called with true (`--verbose`).
void set_log_verbose(bool verbose) noexcept;
void log_line(LogLevel level, std::string_view text) noexcept;

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
    log_line(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace mirror
