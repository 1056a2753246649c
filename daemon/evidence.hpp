// SPDX-License-Identifier: BSD-3-Clause
// What a person needs to choose between two sides of a split brain, side by side: the object
// `split_brain` of a peer's entry in the status, and the undo files that earlier choices left.
// Any thread.
#pragma once

#include <string>

#include "daemon/status.hpp"

namespace mirror::daemon {

/// Null where the volume has not diverged or the peer was never seen. Pure.
[[nodiscard]] Json split_brain_evidence(const VolumeFacts& facts, const StateWord& state);

/// The newest generation that both have, in `ours`; null when there is none. Pure.
[[nodiscard]] const Generation* find_ancestor(const Lineage& ours, const Lineage& theirs);

/// "alpha went on without its peer". Pure.
[[nodiscard]] std::string generation_words(const Generation& generation);

/// When a file was written last; the epoch for a device, whose inode does not tell.
[[nodiscard]] WallTime last_write_of(const std::string& backing_path);

/// The entries of `undo` in the status.
[[nodiscard]] Json undo_entries(const std::string& state_dir, const std::string& volume);

}  // namespace mirror::daemon
