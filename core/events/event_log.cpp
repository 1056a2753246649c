// SPDX-License-Identifier: BSD-3-Clause
#include "core/events/event_log.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "core/base/foreign_text.hpp"
#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/base/log_target.hpp"
#include "core/base/trusted_file.hpp"
#include "core/events/asked_by.hpp"
#include "core/events/journal.hpp"

namespace mirror {
namespace {

constexpr int kept_files = 4;
constexpr std::chrono::milliseconds lock_patience{2000};
constexpr std::chrono::milliseconds lock_retry{2};

/// A program that is stopped while it holds the lock must not stop the mirror: no endless wait.
Result<void> lock_patiently(int fd, const std::string& path) {
    const auto deadline = std::chrono::steady_clock::now() + lock_patience;
    while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno != EWOULDBLOCK) {
            return fail_errno(errno, path);
        }
        if (std::chrono::steady_clock::now() >= deadline) {
            return fail(ErrorKind::busy, "{}: another program holds its lock", path);
        }
        std::this_thread::sleep_for(lock_retry);
    }
    return {};
}

/// Whether `path` still names the file that is open: another program may have rotated it
/// between our open and our lock.
bool is_current(int fd, const std::string& path) {
    struct stat opened {};
    struct stat named {};
    return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
           opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/// The file that `path` names, locked.
Result<Fd> open_locked(const std::string& path) {
    for (;;) {
        auto fd = open_own_file(path, O_RDWR | O_APPEND | O_CREAT, 0600);
        if (!fd) {
            return fd;
        }
        if (auto locked = lock_patiently(fd->get(), path); !locked) {
            return Failure(locked.error());
        }
        if (is_current(fd->get(), path)) {
            return fd;
        }
    }
}

std::string numbered(const std::string& path, int number) {
    return number == 0 ? path : fmt::format("{}.{}", path, number);
}

/// With the lock on the file at `path` held. That file moves last, so that nobody else holds
/// the lock of a current file before all the others are in place.
Result<void> rotate(const std::string& path) {
    for (int number = kept_files - 1; number >= 0; --number) {
        const std::string from = numbered(path, number);
        if (::rename(from.c_str(), numbered(path, number + 1).c_str()) != 0 && errno != ENOENT) {
            return fail_errno(errno, from);
        }
    }
    return {};
}

/// Whether a crash left a part of a line at the end.
bool ends_mid_line(int fd, off_t size) {
    char last = '\n';
    return size > 0 && ::pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

/// All of the line or nothing of it, with the lock held.
Result<void> write_whole(int fd, off_t size, const std::string& line, const std::string& path) {
    ssize_t written = -1;
    do {
        written = ::write(fd, line.data(), line.size());
    } while (written < 0 && errno == EINTR);
    if (written == static_cast<ssize_t>(line.size())) {
        return {};
    }
    const int error = written < 0 ? errno : ENOSPC;
    if (written > 0 && ::ftruncate(fd, size) != 0) {
        log(LogLevel::warning, "{}: part of a line remains", path);
    }
    return fail_errno(error, path);
}

LogLevel log_level(Severity severity) noexcept {
    switch (severity) {
        case Severity::info:
            return LogLevel::info;
        case Severity::warning:
            return LogLevel::warning;
        default:
            return LogLevel::error;
    }
}

std::string for_people(const Event& event) {
    std::string text = event.volume.empty() ? event.text : event.volume + ": " + event.text;
    if (!event.cause.empty()) {
        text += " (" + event.cause + ")";
    }
    return event.remedy.empty() ? text : text + "; " + event.remedy;
}

/// Control characters would end a field, and are no words anyway.
std::string one_line(const std::string& text) {
    return without_controls(text, ' ');
}

/// To the journal with its fields, or else as a line like any other: never both.
void tell(const Event& event, const std::string& node) {
    const std::string words = for_people(event);
    const LogLevel level = log_level(event.severity);
    const bool is_told =
        log_goes_to_journal() &&
        send_to_journal(journal_entry({{"MESSAGE", one_line(words)},
                                       {"PRIORITY", std::to_string(journal_priority(level))},
                                       {"SYSLOG_IDENTIFIER", "mirrord"},
                                       {"MESSAGE_ID", message_id(event.id)},
                                       {"VOLUME", one_line(event.volume)},
                                       {"MIRRORDISK_EVENT", one_line(event.id)},
                                       {"MIRRORDISK_NODE", one_line(node)},
                                       {"MIRRORDISK_CAUSE", one_line(event.cause)},
                                       {"MIRRORDISK_REMEDY", one_line(event.remedy)}}));
    if (!is_told) {
        log_line(level, words);
    }
}

}  // namespace

std::string_view to_string(Severity severity) noexcept {
    switch (severity) {
        case Severity::info:
            return "info";
        case Severity::warning:
            return "warning";
        default:
            return "error";
    }
}

EventLog::EventLog(std::string path, std::string node, const Clock& clock, std::uint64_t rotate_at)
    : path_(std::move(path)), node_(std::move(node)), clock_(clock), rotate_at_(rotate_at) {}

void EventLog::record(const Event& event) noexcept {
    try {
        tell(event, node_);
        nlohmann::ordered_json json{
            {"time", format_rfc3339(clock_.wall_now())},
            {"node", node_},
            {"volume", event.volume},
            {"id", event.id},
            {"severity", std::string(to_string(event.severity))},
            {"text", event.text},
            {"cause", event.cause},
            {"remedy", event.remedy},
        };
        if (const AskedBy* const asker = AskedBy::current()) {
            json["asked_by"] = to_json(*asker);
        }
        // Words of a peer or a file name may not be UTF-8, which JSON must be.
        const std::string line =
            json_without_controls(
                json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)) +
            '\n';
        if (auto appended = append(line); !appended) {
            log(LogLevel::warning, "the event was not recorded: {}", appended.error().text());
        }
    } catch (const std::exception& error) {
        log_line(LogLevel::warning, "an event was not recorded");
        log_line(LogLevel::warning, error.what());
    }
}

Result<void> EventLog::append(const std::string& line) {
    const MutexLock lock(mutex_);
    for (;;) {
        const Result<Fd> file = open_locked(path_);
        if (!file) {
            return Failure(file.error());
        }
        struct stat status {};
        if (::fstat(file->get(), &status) != 0) {
            return fail_errno(errno, path_);
        }
        const off_t size = status.st_size;
        if (size == 0 || static_cast<std::uint64_t>(size) + line.size() <= rotate_at_) {
            return write_whole(file->get(), size,
                               ends_mid_line(file->get(), size) ? "\n" + line : line, path_);
        }
        if (auto rotated = rotate(path_); !rotated) {
            return rotated;
        }
    }
}

}  // namespace mirror
