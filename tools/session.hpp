// SPDX-License-Identifier: BSD-3-Clause
// What a verb works with: the options, the daemon, and the world around (streams, terminal,
// clock), injected so that each verb is tested without any of them. Main thread.
#pragma once

#include <chrono>
#include <functional>
#include <istream>
#include <ostream>

#include "core/base/clock.hpp"
#include "core/config/mistakes.hpp"
#include "tools/client.hpp"
#include "tools/options.hpp"
#include "tools/terminal.hpp"

namespace mirror::tools {

struct World {
    std::ostream& out;
    std::ostream& err;
    std::istream& in;
    Terminal terminal;     ///< where `out` goes
    bool can_ask = false;  ///< a person is at both ends: questions make sense
    const Clock& clock;
    /// Waits; false ends a loop that would go on for ever (tests).
    std::function<bool(std::chrono::milliseconds)> pause;
};

struct Session {
    const Options& options;
    const Config& config;
    const NodeConfig& node;
    const std::string& config_path;
    Client& client;
    World& world;
};

inline constexpr std::chrono::seconds query_deadline{15};
/// What monitors wait for.
inline constexpr std::chrono::seconds monitor_deadline{10};
/// Changes wait for application I/O, other nodes, devices, and hooks on both nodes.
inline constexpr std::chrono::minutes change_deadline{60};

/// `--timeout`, or what is usual without it.
[[nodiscard]] std::chrono::milliseconds patience_of(const Options& options,
                                                    std::chrono::milliseconds usual) noexcept;

/// The exit code for an error, after it was printed: text on stderr, with --json also as an
/// object on stdout.
int report(const Error& error, const Options& options, World& world);

/// The same for a configuration: every mistake, one a line, and with --json as a list `mistakes`.
int report_mistakes(const Mistakes& mistakes, const std::string& path, const Options& options,
                    World& world);

/// Prints {"schema": 1, …answer}.
void print_json(const Json& answer, World& world);

}  // namespace mirror::tools
