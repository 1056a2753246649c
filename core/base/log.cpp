// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/log.hpp"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.hpp"

namespace mirror {
namespace {

std::atomic<bool> verbose_on{false};

/// Whether stderr is the journal's stream: the variable is inherited by programs whose stderr
/// was sent elsewhere, so it names the stream it is about (systemd.exec(5)).
bool stderr_is_journal() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    struct stat status {};
    return stream != nullptr && ::fstat(STDERR_FILENO, &status) == 0 &&
           fmt::format("{}:{}", status.st_dev, status.st_ino) == stream;
}

int priority(LogLevel level) noexcept {
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

/// Parts of a text may come from a peer: none of it may start a line or move a cursor.
bool is_control(char letter) noexcept {
    return static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f;
}

void write_line(LogLevel level, std::string_view text) {
    static const bool to_journal = stderr_is_journal();
    std::string line =
        to_journal ? fmt::format("<{}>", priority(level))
                   : fmt::format("{} {}", format_rfc3339(system_clock().wall_now()), word(level));
    for (char letter : text) {
        line += is_control(letter) ? ' ' : letter;
    }
    line += '\n';
    // Nobody is left to tell when stderr itself fails.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

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
