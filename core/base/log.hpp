// SPDX-License-Identifier: BSD-3-Clause
// Lines for a person on stderr, one write() each so that threads do not mix. Where
// $JOURNAL_STREAM says that stderr is the journal, they carry systemd's "<N>" priority prefix
// (sd-daemon(3)); otherwise the time. Control characters become spaces. Any thread.
//
// In mirrord and the engine nothing here waits, whoever has stopped reading: there stderr is the
// non-blocking end of a StderrRelay's pipe, and lines for which it has no room are counted. Before
// that, and in mirrorctl, a line waits as any write does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace mirror {

enum class LogLevel { debug, info, warning, error };

/// Debug lines are dropped unless this was called with true (`--verbose`).
void set_log_verbose(bool verbose) noexcept;
void log_line(LogLevel level, std::string_view text) noexcept;

/// The line as it is written, at most so long that a pipe takes it whole or not at all.
[[nodiscard]] std::string format_log_line(LogLevel level, std::string_view text);
/// How many lines were lost since this was asked last.
[[nodiscard]] std::uint64_t take_lost_lines() noexcept;

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
    log_line(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace mirror
