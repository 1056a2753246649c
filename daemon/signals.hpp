// SPDX-License-Identifier: BSD-3-Clause
// Which signals end mirrord, and which don't: every one that somebody may send without wanting its
// end (logrotate's recipes, `systemctl kill -s HUP`, a terminal that is closed) is received,
// logged, and changes nothing. So mirrord never ends by a signal that can be caught without a line
// in its log.
#pragma once

#include <optional>
#include <signal.h>
#include <string>

namespace mirror::daemon {

/// Blocks all of them. Before the first thread is made, so that every thread inherits it, and only
/// wait_for_end sees them. Children get the defaults (spawn.cpp).
void block_signals();

/// Returns at the first signal that ends mirrord, with its name: "signal 15 (SIGTERM)". One thread:
/// main's.
std::string wait_for_end();

/// What is logged for one that ends nothing; nothing for one that does.
[[nodiscard]] std::optional<std::string> why_not_ended(int signal);

}  // namespace mirror::daemon
