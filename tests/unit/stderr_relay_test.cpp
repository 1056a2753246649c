// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/stderr_relay.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <string>
#include <unistd.h>

#include <climits>
#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "core/base/log.hpp"
#include "core/base/sanitized.hpp"

using namespace mirror;

namespace {

/// stderr of this process is a pipe that somebody else has to read.
class PipedStderr {
  public:
    PipedStderr() : saved_(::dup(STDERR_FILENO)) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        reading_ = Fd(ends[0]);
        const Fd writing(ends[1]);
        ::fcntl(writing.get(), F_SETPIPE_SZ, 4096);
        ::dup2(writing.get(), STDERR_FILENO);
        (void)take_lost_lines();
    }
    PipedStderr(const PipedStderr&) = delete;
    PipedStderr& operator=(const PipedStderr&) = delete;
    ~PipedStderr() { ::dup2(saved_.get(), STDERR_FILENO); }

    /// Until the text is there.
    std::string read_until(const std::string& wanted) {
        std::array<char, 4096> piece{};
        while (text_.find(wanted) == std::string::npos) {
            const ssize_t got = ::read(reading_.get(), piece.data(), piece.size());
            REQUIRE(got > 0);
            text_.append(piece.data(), static_cast<std::size_t>(got));
        }
        return text_;
    }
    void close_reader() { reading_.reset(); }

  private:
    Fd saved_;
    Fd reading_;
    std::string text_;
};

/// More than both pipes take together.
void log_much() {
    for (int i = 0; i < 5000; ++i) {
        log(LogLevel::info, "line {} {}", i, std::string(80, 'x'));
    }
}

}  // namespace

TEST_CASE(
    "nobody waits for who does not read stderr, and the losses are told when he reads again") {
    if (is_sanitized) {
        return;
    }
    PipedStderr terminal;
    StderrRelay relay;
    log_much();  // would not come back
    relay.start();
    log_much();
    // Nor does whoever else in the process writes there.
    const std::string others(PIPE_BUF, 'y');
    CHECK(::write(STDERR_FILENO, others.data(), others.size()) < 0);
    CHECK(errno == EAGAIN);
    const std::string text = terminal.read_until("lines of this log were lost");
    CHECK(text.find("line 0 ") != std::string::npos);
    log_line(LogLevel::info, "afterwards");
    CHECK_FALSE(terminal.read_until("afterwards").empty());
}

TEST_CASE("the end of a relay does not wait for who does not read, and gives stderr back") {
    if (is_sanitized) {
        return;
    }
    PipedStderr terminal;
    {
        const StderrRelay relay;  // of a process that fails before it starts one
        CHECK(real_stderr() != STDERR_FILENO);
        log_line(LogLevel::info, "the last words");
    }
    CHECK(real_stderr() == STDERR_FILENO);
    CHECK_FALSE(terminal.read_until("the last words").empty());
    {
        StderrRelay relay;
        relay.start();
        log_much();
    }
    log_much();  // nor does what comes after it
}

TEST_CASE("a reader that is gone for good stops nobody") {
    if (is_sanitized) {
        return;
    }
    ::signal(SIGPIPE, SIG_IGN);
    PipedStderr terminal;
    {
        StderrRelay relay;
        relay.start();
        terminal.close_reader();
        log_much();
    }
    ::signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("a long line is cut, so that a pipe takes it whole or not at all") {
    const std::string line = format_log_line(LogLevel::warning, std::string(10000, 'x'));
    CHECK(line.size() == PIPE_BUF);
    CHECK(line.ends_with(" ...\n"));
}
