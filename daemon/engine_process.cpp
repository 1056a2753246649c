// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/engine_process.hpp"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <vector>

#include "core/base/log.hpp"
#include "core/base/sanitized.hpp"
#include "core/base/spawn.hpp"
#include "core/base/trusted_file.hpp"
#include "core/config/own_names.hpp"
#include "daemon/running_engines.hpp"
#include "daemon/volume_home.hpp"

namespace mirror::daemon {
namespace {

/// One thread per request of a client's queue (the thread count is the queue depth).
constexpr const char* engine_threads = "--threads=64";

/// A pid, or the reason of a failed start.
constexpr std::size_t longest_file = 65536;

/// By system call: glibc has had the wrapper only since 2.36.
Fd open_pidfd(pid_t pid) {
    return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

std::optional<pid_t> read_pid(const std::string& path) {
    const auto text = read_own_file(path, longest_file);
    pid_t pid = 0;
    if (!text ||
        std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc{} ||
        pid <= 0) {
        return std::nullopt;
    }
    return pid;
}

std::string from_environment(const char* variable, const char* fallback) {
    const char* value = std::getenv(variable);
    return value != nullptr && value[0] != '\0' ? value : fallback;
}

std::vector<std::string> engine_environment() {
    std::vector<std::string> result = current_environment();
    // nbdkit itself is not instrumented: tests put the sanitizer's library before it.
    const std::string preload =
        is_sanitized ? from_environment("MIRRORDISK_ENGINE_PRELOAD", "") : std::string();
    if (!preload.empty()) {
        std::erase_if(result,
                      [](const std::string& entry) { return entry.starts_with("LD_PRELOAD="); });
        result.push_back("LD_PRELOAD=" + preload);
    }
    return result;
}

/// Whether `pid` is the engine of this socket, for this node: a pid file may be older than the
/// process, which may be anybody's then, and a node that has another name now has another one's
/// engine.
bool serves_socket(pid_t pid, const std::string& socket, const std::string& node) {
    struct stat process {};
    if (::stat(fmt::format("/proc/{}", pid).c_str(), &process) != 0 ||
        process.st_uid != ::geteuid()) {
        return false;
    }
    const auto command = read_process_file(fmt::format("/proc/{}/cmdline", pid));
    const auto has = [&](const std::string& word) {
        return command->find('\0' + word + '\0') != std::string::npos;
    };
    return command && has(socket) && has("node=" + node);
}

}  // namespace

EnginePaths EnginePaths::of(const NodeConfig& node, const std::string& volume) {
    const std::string base = node.run_dir + "/" + volume;
    const auto with = [&](std::string_view suffix) { return base + std::string(suffix); };
    return {node.volume_socket(volume),   node.express_socket(volume),
            with(own_names::engine_pid),  with(own_names::engine_error),
            with(own_names::active_mark), with(own_names::engine_settings)};
}

const std::string& EnginePaths::device_socket() const noexcept {
    return ::access(express.c_str(), F_OK) == 0 ? express : socket;
}

std::string nbdkit_program() {
    return from_environment("MIRRORDISK_NBDKIT", "nbdkit");
}

std::string plugin_path() {
    return from_environment("MIRRORDISK_PLUGIN", MIRROR_PLUGIN_PATH);
}

Result<void> require_engine_programs(const std::string& node) {
    const auto missing = [&](const std::string& what, const std::string& package) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} has no engine to start: {} is missing", node, what),
                             fmt::format("install {} on {}", package, node)});
    };
    if (find_program(nbdkit_program()).empty()) {
        return missing(nbdkit_program(), "nbdkit");
    }
    if (::access(plugin_path().c_str(), R_OK) != 0) {
        return missing(plugin_path(), "the package mirrordisk again");
    }
    return {};
}

Result<std::shared_ptr<EngineProcess>> EngineProcess::spawn(const EngineCommand& command) {
    remove_engine_files(command.paths);
    ::unlink(command.paths.error_file.c_str());
    if (auto given = write_engine_config(command.paths.settings, command.config); !given) {
        return Failure(given.error());
    }
    const auto started = mirror::spawn(
        {{nbdkit_program(), "-f", engine_threads, "-U", command.paths.socket, "-P",
          command.paths.pid_file, plugin_path(), "volume=" + command.volume, "node=" + command.node,
          "config=" + command.paths.settings, "error_file=" + command.paths.error_file},
         engine_environment()});
    if (!started) {
        return Failure(started.error());
    }
    const pid_t pid = *started;
    Fd pidfd = open_pidfd(pid);
    if (!pidfd.is_open()) {
        const int os_error = errno;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        return fail_errno(os_error, fmt::format("watching the engine (pid {})", pid));
    }
    log(LogLevel::info, "{}: engine started (pid {})", command.volume, pid);
    return std::shared_ptr<EngineProcess>(new EngineProcess(pid, std::move(pidfd)));
}

std::shared_ptr<EngineProcess> EngineProcess::adopt(const EnginePaths& paths,
                                                    const std::string& node) {
    const auto written = read_pid(paths.pid_file);
    if (auto engine = written ? adopt_process(*written, paths, node) : nullptr) {
        return engine;
    }
    const auto running = engine_at(paths.socket);
    return running ? adopt_process(running->pid, paths, node) : nullptr;
}

std::shared_ptr<EngineProcess> EngineProcess::adopt_process(pid_t process, const EnginePaths& paths,
                                                            const std::string& node) {
    // The pidfd first: after that the command line cannot become another process's unnoticed.
    Fd pidfd = open_pidfd(process);
    if (!pidfd.is_open() || !serves_socket(process, paths.socket, node)) {
        return nullptr;
    }
    // Of an earlier mirrord it is no child, which waitid says; of an earlier keeper it is one.
    std::shared_ptr<EngineProcess> engine(new EngineProcess(process, std::move(pidfd)));
    return engine->is_running() ? engine : nullptr;
}

bool EngineProcess::is_running() const noexcept {
    return !wait_dead(std::chrono::milliseconds(0));
}

bool EngineProcess::wait_dead(std::chrono::milliseconds timeout) const noexcept {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd watched{pidfd_.get(), POLLIN, 0};
        const int ready = ::poll(
            &watched, 1, static_cast<int>(std::max(left.count(), decltype(left.count()){0})));
        if (ready >= 0 || errno != EINTR) {
            return ready > 0;
        }
    }
}

EngineProcess::~EngineProcess() {
    (void)end_reason();  // a dead child would stay as a zombie
}

Result<void> EngineProcess::kill_and_wait(std::chrono::seconds patience) {
    if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0) != 0 &&
        errno != ESRCH) {
        return fail_errno(errno, fmt::format("killing the engine (pid {})", pid_));
    }
    // Killed processes stay while the kernel finishes their I/O on a disk that hangs.
    if (!wait_dead(patience)) {
        return fail(ErrorKind::timed_out,
                    "the engine (pid {}) was killed, and {} s later the kernel has not ended it: "
                    "its disk may hang",
                    pid_, patience.count());
    }
    (void)end_reason();
    return {};
}

std::string EngineProcess::end_reason() {
    siginfo_t info{};
    if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0 ||
        info.si_pid == 0) {
        return "unknown";
    }
    return info.si_code == CLD_EXITED ? fmt::format("exit status {}", info.si_status)
                                      : fmt::format("signal {}", info.si_status);
}

std::optional<std::string> read_engine_error(const EnginePaths& paths) {
    std::string text = read_own_file(paths.error_file, longest_file).value_or("");
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return !text.empty() ? std::optional(std::move(text)) : std::nullopt;
}

bool has_pid_file(const EnginePaths& paths, pid_t pid) {
    return read_pid(paths.pid_file) == pid;
}

void remove_engine_files(const EnginePaths& paths) noexcept {
    ::unlink(paths.socket.c_str());
    ::unlink(paths.express.c_str());
    ::unlink(paths.pid_file.c_str());
}

}  // namespace mirror::daemon
