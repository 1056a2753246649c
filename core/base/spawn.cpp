// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/spawn.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/memory_lock.hpp"
#include "core/base/stderr_relay.hpp"
#include "core/base/units.hpp"

namespace mirror {
namespace {

/// posix_spawn's two settings objects, destroyed with the scope.
class Settings {
  public:
    Settings(int input, int output) {
        ::posix_spawn_file_actions_init(&actions_);
        ::posix_spawnattr_init(&attributes_);
        if (input >= 0) {
            ::posix_spawn_file_actions_adddup2(&actions_, input, STDIN_FILENO);
        } else {
            ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        }
        if (output >= 0) {
            ::posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO);
        }
        // Never the end of our relay's pipe: a program may outlive us.
        ::posix_spawn_file_actions_adddup2(&actions_, output >= 0 ? output : real_stderr(),
                                           STDERR_FILENO);
        // A descriptor of ours that leaked would keep our port bound after our death.
        ::posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
        sigset_t none;
        sigset_t all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        ::posix_spawnattr_setsigmask(&attributes_, &none);
        ::posix_spawnattr_setsigdefault(&attributes_, &all);
        ::posix_spawnattr_setflags(&attributes_,
                                   static_cast<short>(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                      POSIX_SPAWN_SETSIGDEF));
    }
    ~Settings() {
        ::posix_spawn_file_actions_destroy(&actions_);
        ::posix_spawnattr_destroy(&attributes_);
    }
    Settings(const Settings&) = delete;
    Settings& operator=(const Settings&) = delete;

    [[nodiscard]] const posix_spawn_file_actions_t* actions() const { return &actions_; }
    [[nodiscard]] const posix_spawnattr_t* attributes() const { return &attributes_; }

  private:
    posix_spawn_file_actions_t actions_{};
    posix_spawnattr_t attributes_{};
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> result;
    result.reserve(strings.size() + 1);
    for (std::string& text : strings) {
        result.push_back(text.data());
    }
    result.push_back(nullptr);
    return result;
}

/// Reads to the end of file; false when the deadline came first.
bool drain(int fd, std::chrono::steady_clock::time_point deadline, std::string& into) {
    constexpr std::size_t enough = 4096;  // for a message; the rest is read and dropped
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0) {
            return false;
        }
        pollfd watched{fd, POLLIN, 0};
        const int ready = ::poll(&watched, 1, static_cast<int>(left.count()));
        if (ready <= 0) {
            continue;  // EINTR, or the deadline, which is looked at above
        }
        std::array<char, 1024> piece{};
        const ssize_t got = ::read(fd, piece.data(), piece.size());
        if (got == 0 || (got < 0 && errno != EINTR)) {
            return true;
        }
        if (got > 0 && into.size() < enough) {
            into.append(piece.data(), static_cast<std::size_t>(got));
        }
    }
}

}  // namespace

std::string find_program(const std::string& name) {
    if (name.find('/') != std::string::npos) {
        return ::access(name.c_str(), X_OK) == 0 ? name : std::string();
    }
    for (std::string_view left = program_path; !left.empty();) {
        const std::size_t end = std::min(left.find(':'), left.size());
        std::string file = fmt::format("{}/{}", left.substr(0, end), name);
        if (::access(file.c_str(), X_OK) == 0) {
            return file;
        }
        left.remove_prefix(std::min(end + 1, left.size()));
    }
    return {};
}

std::vector<std::string> current_environment() {
    std::vector<std::string> result;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        result.emplace_back(*entry);
    }
    return result;
}

Result<pid_t> spawn(const Program& program) {
    std::vector<std::string> arguments = program.arguments;
    std::vector<std::string> environment = program.environment;
    const bool is_file = arguments.front().find('/') != std::string::npos;
    const std::string file = is_file ? arguments.front() : find_program(arguments.front());
    if (file.empty()) {
        return fail_errno(ENOENT, fmt::format("starting {}", arguments.front()));
    }
    const Settings settings(program.input, program.output);
    const CommonThread inherits_nothing;
    pid_t pid = 0;
    const int failed = ::posix_spawn(&pid, file.c_str(), settings.actions(), settings.attributes(),
                                     pointers(arguments).data(), pointers(environment).data());
    if (failed != 0) {
        return fail_errno(failed, fmt::format("starting {}", arguments.front()));
    }
    return pid;
}

Result<std::string> run_tool(const std::vector<std::string>& arguments,
                             std::chrono::milliseconds deadline) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return fail_errno(errno, "making a pipe");
    }
    const Fd reading(ends[0]);
    Fd writing(ends[1]);
    const auto until = std::chrono::steady_clock::now() + deadline;
    const auto pid = spawn({arguments, current_environment(), writing.get()});
    if (!pid) {
        return Failure(pid.error());
    }
    writing.reset();
    std::string output;
    const bool in_time = drain(reading.get(), until, output);
    if (!in_time) {
        ::kill(*pid, SIGKILL);
    }
    int status = 0;
    while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
    }
    while (!output.empty() && output.back() == '\n') {
        output.pop_back();
    }
    if (!in_time) {
        return fail(ErrorKind::timed_out, "{} did not end within {}", arguments.front(),
                    format_duration(deadline));
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return fail(ErrorKind::io, "{} failed: {}", arguments.front(),
                    output.empty() ? "it gave no reason" : output);
    }
    return output;
}

}  // namespace mirror
