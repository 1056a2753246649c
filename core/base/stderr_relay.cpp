// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/stderr_relay.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

#include <climits>

#include "core/base/fd.hpp"
#include "core/base/log.hpp"
#include "core/base/sanitized.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"

namespace mirror {
namespace {

constexpr std::chrono::milliseconds patience_at_end{500};

std::atomic<int> real{STDERR_FILENO};
std::atomic<int> pipe_of_abort{-1};
std::atomic<bool> is_pumped{false};  ///< else who aborts takes on what is in the pipe

/// Waits as long as it takes; gives up what can never be written.
void write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(fd, text.data(), text.size());
        if (written > 0) {
            text.remove_prefix(static_cast<std::size_t>(written));
        } else if (errno == EAGAIN) {  // somebody else made it non-blocking
            pollfd watched{fd, POLLOUT, 0};
            (void)::poll(&watched, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

/// What the C library says before it ends the process is in the pipe: it gets a moment, and whoever
/// has no thread yet takes it on here. Only what is allowed in a handler of signals.
void give_last_words_a_moment(int signal) {
    constexpr timespec step{0, 10'000'000};
    int left = 0;
    for (int i = 0; i < 20 && ::ioctl(pipe_of_abort, FIONREAD, &left) == 0 && left > 0; ++i) {
        pollfd reader{real, POLLOUT, 0};
        std::array<char, PIPE_BUF> piece{};
        if (!is_pumped && ::poll(&reader, 1, 0) == 1) {
            const ssize_t got = ::read(pipe_of_abort, piece.data(), piece.size());
            (void)!::write(real, piece.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
            continue;
        }
        (void)::nanosleep(&step, nullptr);
    }
    (void)::nanosleep(&step, nullptr);
    (void)::signal(signal, SIG_DFL);
    (void)::raise(signal);
}

void tell_there_is_none(const std::string& why) {
    log(LogLevel::warning,
        "stderr is written directly, so this process stops when nothing reads it: {}", why);
}

}  // namespace

struct StderrRelay::Pump {
    Fd from;
    Fd to;
    Thread thread;
    Mutex mutex;
    CondVar ended;
    bool has_ended GUARDED_BY(mutex) = false;

    void run() {
        drain();
        MutexLock lock(mutex);
        has_ended = true;
        ended.notify_all();
    }

    /// Until the last writing end of the pipe is closed.
    void drain() const {
        std::array<char, 16384> piece{};
        for (;;) {
            const ssize_t got = ::read(from.get(), piece.data(), piece.size());
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                break;
            }
            write_all(to.get(), {piece.data(), static_cast<std::size_t>(got)});
            tell_losses();
        }
    }

    void tell_losses() const {
        if (const std::uint64_t lost = take_lost_lines(); lost != 0) {
            write_all(to.get(),
                      format_log_line(
                          LogLevel::warning,
                          fmt::format("{} line{} of this log {} lost: nothing was reading it", lost,
                                      lost == 1 ? "" : "s", lost == 1 ? "was" : "were")));
        }
    }

    [[nodiscard]] bool wait_for_end(std::chrono::milliseconds patience) {
        const auto deadline = std::chrono::steady_clock::now() + patience;
        MutexLock lock(mutex);
        while (!has_ended) {
            if (ended.wait_until(lock, deadline) == std::cv_status::timeout) {
                break;
            }
        }
        return has_ended;
    }
};

StderrRelay::StderrRelay() {
    if (is_sanitized) {
        return;
    }
    // What a line looks like depends on where it really goes.
    (void)format_log_line(LogLevel::info, {});
    std::array<int, 2> ends{-1, -1};
    auto pump = std::make_shared<Pump>();
    pump->to = Fd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!pump->to.is_open() || ::pipe2(ends.data(), O_CLOEXEC) != 0) {
        tell_there_is_none(fail_errno(errno, "a pipe").value().message);
        return;
    }
    pump->from = Fd(ends[0]);
    const Fd writing(ends[1]);
    (void)::fcntl(writing.get(), F_SETFL, O_NONBLOCK);
    real = pump->to.get();
    (void)::dup2(writing.get(), STDERR_FILENO);
    pipe_of_abort = pump->from.get();
    (void)::signal(SIGABRT, give_last_words_a_moment);
    pump_ = std::move(pump);
}

void StderrRelay::start() {
    if (!pump_ || pump_->thread.joinable()) {
        return;
    }
    // The thread holds what it needs, not its owner: it may outlive this.
    auto started = start_thread(pump_->thread, "stderr", [pump = pump_] { pump->run(); });
    if (!started) {
        give_stderr_back();
        pump_->drain();
        pump_.reset();
        tell_there_is_none(started.error().message);
        return;
    }
    is_pumped = true;
}

void StderrRelay::give_stderr_back() {
    (void)::signal(SIGABRT, SIG_DFL);
    // A second one of its own, so that the pipe's last writing end is gone before anybody waits.
    const Fd back(::fcntl(pump_->to.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    real = STDERR_FILENO;
    (void)::dup2(back.get(), STDERR_FILENO);
}

StderrRelay::~StderrRelay() {
    start();  // what waits in the pipe of a process that fails early
    if (!pump_) {
        return;
    }
    give_stderr_back();
    is_pumped = false;
    if (pump_->wait_for_end(patience_at_end)) {
        pump_->thread.join();
        return;
    }
    const Fd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    (void)::dup2(nowhere.get(), STDERR_FILENO);
    pump_->thread.detach();
}

int real_stderr() noexcept {
    return real;
}

}  // namespace mirror
