// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/child.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string_view>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/spawn.hpp"
#include "core/base/trusted_file.hpp"
#include "core/base/units.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;
using SteadyTime = std::chrono::steady_clock::time_point;

constexpr std::size_t kept_output = 4096;
constexpr std::size_t last_lines = 5;
/// A killed process ends at once, unless a disk holds it.
constexpr milliseconds patience_after_kill{5000};

/// What is in the pipe now, or some of it: who writes without end must not keep us from the clock.
/// False at its end.
bool read_some(int fd, std::string& into) {
    constexpr int most_pieces = 64;
    for (int i = 0; i < most_pieces; ++i) {
        std::array<char, 4096> piece{};
        const ssize_t got = ::read(fd, piece.data(), piece.size());
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 && errno == EAGAIN;
        }
        into.append(piece.data(), static_cast<std::size_t>(got));
        if (into.size() > 2 * kept_output) {
            into.erase(0, into.size() - kept_output);
        }
    }
    return true;
}

int milliseconds_until(SteadyTime deadline) {
    const auto left =
        std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    return static_cast<int>(std::max(left, decltype(left){0}));
}

/// True when the process has ended, false when the deadline came first, which comes earlier when
/// `hurry` can be read.
bool watch(int process, int pipe, SteadyTime deadline, ChildEnd& end,
           const ChildOptions& options = {}) {
    std::string& output = end.output;
    bool pipe_is_open = true;
    for (;;) {
        std::array<pollfd, 3> watched{pollfd{process, POLLIN, 0},
                                      pollfd{pipe_is_open ? pipe : -1, POLLIN, 0},
                                      pollfd{end.was_hurried ? -1 : options.hurry, POLLIN, 0}};
        const int left = milliseconds_until(deadline);
        const int ready = ::poll(watched.data(), watched.size(), left);
        if (ready == 0 && left == 0) {
            return false;
        }
        if (ready > 0 && watched[1].revents != 0) {
            pipe_is_open = read_some(pipe, output);
        }
        if (ready > 0 && watched[0].revents != 0) {
            (void)read_some(pipe, output);  // the rest
            return true;
        }
        if (ready > 0 && watched[2].revents != 0) {
            end.was_hurried = true;
            deadline = std::min(deadline, std::chrono::steady_clock::now() + options.hurry_limit);
        }
    }
}

/// What the program reads on its stdin: a file without a name, so that nobody waits for who reads
/// slowly, or not at all.
Result<Fd> input_of(const std::string& text) {
    if (text.empty()) {
        return Fd();
    }
    Fd file(::memfd_create("input", MFD_CLOEXEC));
    if (!file.is_open()) {
        return fail_errno(errno, "making the input of a program");
    }
    if (auto written = write_all_to(file.get(), text, "the input of a program"); !written) {
        return Failure(written.error());
    }
    if (::lseek(file.get(), 0, SEEK_SET) != 0) {
        return fail_errno(errno, "making the input of a program");
    }
    return file;
}

/// Bytes that are no text would spoil the event log and the terminal.
std::string printable(std::string text) {
    if (text.size() > kept_output) {
        text.erase(0, text.size() - kept_output);
    }
    for (char& letter : text) {
        const auto code = static_cast<unsigned char>(letter);
        if ((code < ' ' && letter != '\n') || code >= 0x7f) {
            letter = letter == '\t' ? ' ' : '?';
        }
    }
    while (!text.empty() && text.back() == '\n') {
        text.pop_back();
    }
    return text;
}

/// mirrord is spared when memory runs out, and its children inherit that; these shall not.
void give_usual_priority(pid_t pid) {
    const Fd file(::open(fmt::format("/proc/{}/oom_score_adj", pid).c_str(), O_WRONLY | O_CLOEXEC));
    if (file.is_open()) {
        (void)!::write(file.get(), "0", 1);
    }
}

void reap(pid_t pid, ChildEnd& end) {
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) == pid) {
        end.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        end.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    } else {
        end.exit_code = -1;
    }
}

}  // namespace

std::string ChildEnd::words(milliseconds limit) const {
    if (!in_time) {
        return fmt::format("killed after {}, with all processes that it had started",
                           format_duration(limit));
    }
    return exit_code >= 0 ? fmt::format("exit status {}", exit_code)
                          : fmt::format("ended by signal {}", signal);
}

std::string ChildEnd::last_words() const {
    std::size_t begin = output.size();
    for (std::size_t lines = 0; lines < last_lines && begin != 0; ++lines) {
        const std::size_t newline = output.rfind('\n', begin - 1);
        begin = newline == std::string::npos ? 0 : newline;
    }
    std::string words;
    for (const char letter : std::string_view(output).substr(begin)) {
        if (letter != '\n') {
            words += letter;
        } else if (!words.empty()) {
            words += "; ";
        }
    }
    return words;
}

Result<ChildEnd> run_child(const std::vector<std::string>& arguments,
                           const std::vector<std::string>& environment, milliseconds limit,
                           const ChildOptions& options) {
    const auto input = input_of(options.input);
    if (!input) {
        return Failure(input.error());
    }
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return fail_errno(errno, "making a pipe");
    }
    const Fd reading(ends[0]);
    Fd writing(ends[1]);
    if (::fcntl(reading.get(), F_SETFL, O_NONBLOCK) != 0) {
        return fail_errno(errno, "making a pipe");
    }
    const SteadyTime deadline = std::chrono::steady_clock::now() + limit;
    const auto pid = spawn({arguments, environment, writing.get(), input->get()});
    if (!pid) {
        return Failure(pid.error());
    }
    writing.reset();
    give_usual_priority(*pid);
    const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
    if (!process.is_open()) {
        const int os_error = errno;
        ::kill(-*pid, SIGKILL);
        ::waitpid(*pid, nullptr, 0);
        return fail_errno(os_error, fmt::format("watching {}", arguments.front()));
    }
    ChildEnd end;
    end.in_time = watch(process.get(), reading.get(), deadline, end, options);
    if (!end.in_time) {
        ::kill(-*pid, SIGKILL);  // it leads the group: spawn() gave it a session
        (void)watch(process.get(), reading.get(),
                    std::chrono::steady_clock::now() + patience_after_kill, end);
    }
    reap(*pid, end);
    end.output = printable(std::move(end.output));
    return end;
}

std::vector<std::string> clean_environment() {
    return {fmt::format("PATH={}", program_path), "HOME=/", "LC_ALL=C.UTF-8"};
}

}  // namespace mirror::daemon
