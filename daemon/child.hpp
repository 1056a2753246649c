// SPDX-License-Identifier: BSD-3-Clause
// Programs that others wrote (hooks, mount helpers), run to their end: with a time limit for the
// whole process group, and their output kept in a bounded size. Any thread; waits.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "core/base/error.hpp"

namespace mirror::daemon {

struct ChildEnd {
    bool in_time = true;       ///< otherwise it was killed at the limit
    bool was_hurried = false;  ///< its limit came early: `hurry` became readable
    int exit_code = 0;         ///< -1: ended by `signal`
    int signal = 0;
    std::string output;  ///< stdout and stderr, the last of it, fit to be printed

    [[nodiscard]] bool succeeded() const noexcept { return in_time && exit_code == 0; }
    /// "exit status 3", "killed after 60s, with all that it had started".
    [[nodiscard]] std::string words(std::chrono::milliseconds limit) const;
    /// The last lines of the output in one, "a; b"; empty when it printed nothing.
    [[nodiscard]] std::string last_words() const;
};

/// What else a program may be given.
struct ChildOptions {
    std::string input{};  ///< its stdin; empty: /dev/null
    /// Once it can be read, the program has `hurry_limit` left at most; -1: nobody hurries it.
    int hurry = -1;
    std::chrono::milliseconds hurry_limit{500};
};

/// What it leaves running may go on, but can't print any more. An error when it can't be started.
[[nodiscard]] Result<ChildEnd> run_child(const std::vector<std::string>& arguments,
                                         const std::vector<std::string>& environment,
                                         std::chrono::milliseconds limit,
                                         const ChildOptions& options = {});

/// PATH, HOME and LC_ALL, whatever mirrord was started with.
[[nodiscard]] std::vector<std::string> clean_environment();

}  // namespace mirror::daemon
