// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/signals.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "core/base/log.hpp"

namespace mirror::daemon {
namespace {

constexpr std::array ending{SIGTERM, SIGINT, SIGQUIT};
constexpr std::array harmless{SIGHUP, SIGUSR1, SIGUSR2};

sigset_t all_of_them() {
    sigset_t set;
    ::sigemptyset(&set);
    for (const int signal : ending) {
        ::sigaddset(&set, signal);
    }
    for (const int signal : harmless) {
        ::sigaddset(&set, signal);
    }
    return set;
}

std::string name_of(int signal) {
    const char* name = ::sigabbrev_np(signal);
    return name == nullptr ? fmt::format("signal {}", signal)
                           : fmt::format("signal {} (SIG{})", signal, name);
}

}  // namespace

void block_signals() {
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGTTOU, SIG_IGN);  // a log line for a terminal must not stop what runs behind it
    const sigset_t set = all_of_them();
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

std::optional<std::string> why_not_ended(int signal) {
    if (std::find(harmless.begin(), harmless.end(), signal) == harmless.end()) {
        return std::nullopt;
    }
    return signal == SIGHUP
               ? fmt::format("{}: reading the configuration again", name_of(signal))
               : fmt::format(
                     "{} is ignored: keys and certificates are read for each connection, "
                     "and the configuration is read again by mirrorctl reload",
                     name_of(signal));
}

std::string wait_for_end(const std::function<void()>& on_hangup) {
    const sigset_t set = all_of_them();
    for (;;) {
        int signal = 0;
        if (::sigwait(&set, &signal) != 0) {
            continue;
        }
        const auto reason = why_not_ended(signal);
        if (!reason) {
            return name_of(signal);
        }
        log(LogLevel::info, "{}", *reason);
        if (signal == SIGHUP) {
            on_hangup();
        }
    }
}

}  // namespace mirror::daemon
