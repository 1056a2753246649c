// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/log.hpp"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>

#include "core/base/clock.hpp"
#include "core/base/foreign_text.hpp"
#include "core/base/log_target.hpp"

namespace mirror {
namespace {

std::atomic<bool> verbose_on{false};
std::atomic<std::uint64_t> lost_lines{0};

/// Whether stderr is the journal's stream: the variable is inherited by programs whose stderr
/// was sent elsewhere, so it names the stream it is about (systemd.exec(5)).
bool stderr_is_journal() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    struct stat status {};
    return stream != nullptr && ::fstat(STDERR_FILENO, &status) == 0 &&
           fmt::format("{}:{}", status.st_dev, status.st_ino) == stream;
}

std::string_view word(LogLevel level) noexcept {
    switch (level) {
        case LogLevel::debug:
            return "debug: ";
        case LogLevel::info:
            return "";
        case LogLevel::warning:
            return "warning: ";
        default:
            return "error: ";
    }
}

void write_line(LogLevel level, std::string_view text) {
    const std::string line = format_log_line(level, text);
    // Where stderr itself fails nobody is left to tell; where it is only full, somebody is later.
    if (::write(STDERR_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
        ++lost_lines;
    }
}

}  // namespace

int journal_priority(LogLevel level) noexcept {
    switch (level) {
        case LogLevel::debug:
            return 7;
        case LogLevel::info:
            return 6;
        case LogLevel::warning:
            return 4;
        default:
            return 3;
    }
}

bool log_goes_to_journal() noexcept {
    static const bool to_journal = stderr_is_journal();
    return to_journal;
}

std::string format_log_line(LogLevel level, std::string_view text) {
    constexpr std::string_view cut = " ...";
    std::string line =
        log_goes_to_journal()
            ? fmt::format("<{}>", journal_priority(level))
            : fmt::format("{} {}", format_rfc3339(system_clock().wall_now()), word(level));
    const std::size_t room = PIPE_BUF - line.size() - cut.size() - 1;
    // Parts of a text may come from a peer: none of it may start a line or move a cursor.
    line += without_controls(text.substr(0, room), ' ');
    line += text.size() > room ? cut : "";
    line += '\n';
    return line;
}

std::uint64_t take_lost_lines() noexcept {
    return lost_lines.exchange(0);
}

void set_log_verbose(bool verbose) noexcept {
    verbose_on = verbose;
}

void log_line(LogLevel level, std::string_view text) noexcept {
    if (level == LogLevel::debug && !verbose_on) {
        return;
    }
    const int saved_errno = errno;
    try {
        write_line(level, text);
    } catch (const std::exception&) {
        // Out of memory: the line is lost, the program goes on.
    }
    errno = saved_errno;
}

}  // namespace mirror
