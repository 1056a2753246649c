// SPDX-License-Identifier: BSD-3-Clause
// Whether the backing that was opened for a volume is its own, as it was left: a path alone proves
// nothing after a disk or a file was replaced, restored, or given another name.
#pragma once

#include "core/meta/meta_file.hpp"
#include "core/store/file_store.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// Compares the backing with what `meta` remembers of it, and writes down what is there now. One
/// that is another or was changed is doubtful from then on, with an event; `refused` when it is the
/// backing of another volume of this node. Called when a replica is opened, by the thread that
/// has the volume's operation.
[[nodiscard]] Result<void> recognise_backing(VolumeKeeper& keeper, const FileStore& backing,
                                             MetaFile& meta);

/// What is wrong with what is at the backing's path now, while the replica is open: it was renamed,
/// removed or replaced. Empty: nothing.
[[nodiscard]] std::string look_for_backing(const VolumeKeeper& keeper, const Superblock& block);

}  // namespace mirror::daemon
