// SPDX-License-Identifier: BSD-3-Clause
#include "tools/support/bounded.hpp"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/spawn.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"
#include "core/base/trusted_file.hpp"
#include "core/base/units.hpp"

namespace mirror::tools {
namespace {

using std::chrono::milliseconds;

/// Of the thread that looks and of the one that waits, whichever is there longer.
struct Shared {
    Mutex mutex;
    CondVar done;
    std::optional<Result<std::string>> found GUARDED_BY(mutex);
};

Failure late(milliseconds limit) {
    return fail(ErrorKind::timed_out, "it took longer than {}", format_duration(limit));
}

/// True when the process has ended.
bool ends_within(int process, milliseconds limit) {
    const auto until = std::chrono::steady_clock::now() + limit;
    for (;;) {
        const auto left = std::chrono::ceil<milliseconds>(until - std::chrono::steady_clock::now());
        pollfd watched{process, POLLIN, 0};
        const int ready =
            ::poll(&watched, 1, static_cast<int>(std::max(left, milliseconds(0)).count()));
        if (ready > 0) {
            return true;
        }
        if (ready == 0) {
            return false;
        }
    }
}

/// How it ended, or that it did not. One that can't even be killed is left behind.
Result<int> run_within(const Program& program, milliseconds limit) {
    constexpr milliseconds for_its_end{1000};
    const auto pid = spawn(program);
    if (!pid) {
        return Failure(pid.error());
    }
    const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
    const int os_error = errno;
    const bool in_time = process.is_open() && ends_within(process.get(), limit);
    if (!in_time) {
        ::kill(-*pid, SIGKILL);  // it leads the group: spawn() gave it a session
        if (process.is_open() && !ends_within(process.get(), for_its_end)) {
            return late(limit);
        }
    }
    int status = 0;
    while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!process.is_open()) {
        return fail_errno(os_error, fmt::format("watching {}", program.arguments.front()));
    }
    return in_time ? Result<int>(status) : Result<int>(late(limit));
}

Result<std::string> last_bytes(int fd, std::size_t most, const std::string& what) {
    const off_t size = ::lseek(fd, 0, SEEK_END);
    // Files of /proc have no size, and are read from their start.
    const off_t from = std::max<off_t>(size - static_cast<off_t>(most), 0);
    std::string text(most, '\0');
    std::size_t have = 0;
    while (have < most) {
        const ssize_t got =
            ::pread(fd, text.data() + have, most - have, from + static_cast<off_t>(have));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_errno(errno, what);
        }
        if (got == 0) {
            break;
        }
        have += static_cast<std::size_t>(got);
    }
    text.resize(have);
    return from == 0 ? text : fmt::format("[the first {} bytes are left out]\n", from) + text;
}

}  // namespace

Result<std::string> look_within(milliseconds limit, Look look) {
    const auto shared = std::make_shared<Shared>();
    auto thread = start_thread("look", [shared, look = std::move(look)] {
        Result<std::string> found = look();
        MutexLock lock(shared->mutex);
        shared->found = std::move(found);
        shared->done.notify_all();
    });
    if (!thread) {
        return Failure(thread.error());
    }
    thread->detach();
    const auto until = std::chrono::steady_clock::now() + limit;
    MutexLock lock(shared->mutex);
    while (!shared->found) {
        if (shared->done.wait_until(lock, until) == std::cv_status::timeout && !shared->found) {
            return late(limit);
        }
    }
    return std::move(*shared->found);
}

Result<std::string> output_of(const std::vector<std::string>& arguments, milliseconds limit,
                              std::size_t most) {
    if (find_program(arguments.front()).empty()) {
        return fail(ErrorKind::not_found, "there is no program {}", arguments.front());
    }
    const Fd output(::memfd_create("output", MFD_CLOEXEC));
    if (!output.is_open()) {
        return fail_errno(errno, "making room for its output");
    }
    const std::vector<std::string> environment{fmt::format("PATH={}", program_path), "HOME=/",
                                               "LC_ALL=C.UTF-8"};
    const auto status = run_within(
        {.arguments = arguments, .environment = environment, .output = output.get()}, limit);
    if (!status) {
        return Failure(status.error());
    }
    return last_bytes(output.get(), most, arguments.front()).map([&](std::string text) {
        if (WIFSIGNALED(*status)) {
            text += fmt::format("\n[ended by signal {}]\n", WTERMSIG(*status));
        } else if (WEXITSTATUS(*status) != 0) {
            text += fmt::format("\n[exit status {}]\n", WEXITSTATUS(*status));
        }
        return text;
    });
}

Result<void> filter_through(const std::vector<std::string>& arguments, int input, int output,
                            milliseconds limit) {
    const auto status = run_within(
        {.arguments = arguments, .environment = {}, .output = output, .input = input}, limit);
    if (!status) {
        return Failure(status.error().within(arguments.front()));
    }
    if (*status != 0) {
        return fail(ErrorKind::io, "{} failed", arguments.front());
    }
    return {};
}

Result<std::string> end_of_file(const std::string& path, std::size_t most) {
    return open_to_show(path).and_then(
        [&](const Fd& file) { return last_bytes(file.get(), most, path); });
}

}  // namespace mirror::tools
