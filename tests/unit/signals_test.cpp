// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/signals.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

using namespace mirror::daemon;

namespace {

/// How a process ends that is sent these signals, one after the other, and waits as mirrord does.
int end_after(std::initializer_list<int> signals) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        block_signals();
        for (const int signal : signals) {
            ::raise(signal);
        }
        wait_for_end([] {});
        sigset_t pending;
        ::sigpending(&pending);
        ::_exit(::sigismember(&pending, SIGHUP) == 0 ? 17 : 18);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    return status;
}

}  // namespace

TEST_CASE("a signal that is no wish to end mirrord is received, told and survived") {
    for (const int harmless : {SIGHUP, SIGUSR1, SIGUSR2}) {
        CAPTURE(harmless);
        CHECK(why_not_ended(harmless).value_or("").find(harmless == SIGHUP
                                                            ? "reading the configuration again"
                                                            : "is ignored") != std::string::npos);
        // Both are pending; the lower number comes first, so the end waits for neither.
        const int status = end_after({harmless, SIGTERM});
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 17);
    }
    CHECK(end_after({SIGPIPE, SIGTTOU, SIGTERM}) == 17 << 8);
}

TEST_CASE("a signal that ends mirrord ends it in an orderly way") {
    for (const int ending : {SIGTERM, SIGINT, SIGQUIT}) {
        CAPTURE(ending);
        CHECK_FALSE(why_not_ended(ending).has_value());
        CHECK(end_after({ending}) == 17 << 8);
    }
}
