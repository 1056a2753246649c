// SPDX-License-Identifier: BSD-3-Clause
#include "tools/quiet_input.hpp"

#include <array>
#include <csignal>
#include <termios.h>
#include <unistd.h>

namespace mirror::tools {
namespace {

constexpr std::array ending{SIGINT, SIGTERM, SIGHUP, SIGQUIT};

// For the handler, which can be given nothing.
termios before{};
volatile std::sig_atomic_t quiet_fd = -1;

void put_back(int signal) {
    if (quiet_fd >= 0) {
        (void)::tcsetattr(quiet_fd, TCSANOW, &before);
    }
    (void)std::signal(signal, SIG_DFL);
    (void)std::raise(signal);
}

}  // namespace

QuietInput::QuietInput(int fd) noexcept {
    if (::isatty(fd) != 1 || ::tcgetattr(fd, &before) != 0) {
        return;
    }
    termios quiet = before;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    quiet_fd = fd;
    for (const int signal : ending) {
        (void)std::signal(signal, put_back);
    }
    (void)::tcsetattr(fd, TCSANOW, &quiet);
}

QuietInput::~QuietInput() {
    if (quiet_fd < 0) {
        return;
    }
    (void)::tcsetattr(quiet_fd, TCSANOW, &before);
    quiet_fd = -1;
    for (const int signal : ending) {
        (void)std::signal(signal, SIG_DFL);
    }
}

}  // namespace mirror::tools
