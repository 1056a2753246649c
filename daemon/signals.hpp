// SPDX-License-Identifier: BSD-3-Clause
// Which signals end mirrord, and which don't: every one that somebody may send without wanting its
// end (logrotate's recipes, `systemctl kill -s HUP`, a terminal that is closed) is received and
// logged; SIGHUP lets the configuration be read again, the others change nothing. So mirrord never
// ends by a signal that can be caught without a line in its log.
#pragma once

#include <functional>
#include <optional>
#include <signal.h>
#include <string>

namespace mirror::daemon {

/// Blocks all of them. Before the first thread is made, so that every thread inherits it, and only
/// wait_for_end sees them. Children get the defaults (spawn.cpp).
void block_signals();

/// Returns at the first signal that ends mirrord, with its name: "signal 15 (SIGTERM)". Calls
/// `on_hangup` for each SIGHUP. One thread: main's.
std::string wait_for_end(const std::function<void()>& on_hangup);

/// What is logged for one that ends nothing; nothing for one that does.
[[nodiscard]] std::optional<std::string> why_not_ended(int signal);

}  // namespace mirror::daemon
