// SPDX-License-Identifier: BSD-3-Clause
// What leads out of a volume's state: one sentence with the command to type, for status, check and
// the peer. It is judged by the same rules as the verbs that it names, so that whoever follows it
// ends in sync, or at a decision that only a person can make. Pure; any thread.
#pragma once

#include <string>

#include "daemon/status.hpp"

namespace mirror::daemon {

/// Empty: nothing is to be done.
[[nodiscard]] std::string next_step(const VolumeFacts& facts, const StateWord& state);

/// Whether a reason is that a filesystem or a device is full.
[[nodiscard]] bool is_out_of_space(const std::string& why);

/// The sentence of one node as another one shows it: "on alpha: mirrorctl connect r0".
[[nodiscard]] std::string step_on(const std::string& node, const std::string& step);

/// Of two nodes of which none is active: where a plain promotion is allowed, or what tells the
/// price where it is not.
[[nodiscard]] std::string step_when_nobody_is_active(const VolumeFacts& facts,
                                                     const ReplicaSummary& theirs);

}  // namespace mirror::daemon
