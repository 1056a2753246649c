// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/start_thread.hpp"

#include <cerrno>
#include <csignal>
#include <new>
#include <pthread.h>
#include <system_error>
#include <utility>

namespace mirror {
namespace {

constexpr std::size_t longest_name = 15;  // pthread_setname_np(3)

}  // namespace

Result<Thread> start_thread(const std::string& name, std::function<void()> run) {
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    Result<Thread> started;
    try {
        // By itself: another one's name is a file in /proc, which an engine may not write
        // (Landlock).
        started =
            Thread(std::thread([own_name = name.substr(0, longest_name), run = std::move(run)] {
                ::pthread_setname_np(::pthread_self(), own_name.c_str());
                run();
            }));
    } catch (const std::system_error& error) {
        started = fail_errno(error.code().value(), "starting the thread " + name);
    } catch (const std::bad_alloc&) {
        started = fail_errno(ENOMEM, "starting the thread " + name);
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
}

Result<void> start_thread(Thread& thread, const std::string& name, std::function<void()> run) {
    return start_thread(name, std::move(run)).map([&](Thread&& started) {
        thread = std::move(started);
    });
}

}  // namespace mirror
