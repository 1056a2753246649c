// SPDX-License-Identifier: BSD-3-Clause
// The steps of a resize on one node, and the lock under which they are taken. Each may be repeated:
// a resize that was cut short is finished by doing it again (docs/design.md, section 12). Called
// from requests' threads.
#pragma once

#include "core/base/fd.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// Held while the new part of a backing may be zeroed, by one process and one resize of a node at a
/// time: another one may finish meanwhile, and then there is data.
class ResizeLock {
  public:
    /// `busy` while another resize has it.
    [[nodiscard]] static Result<ResizeLock> take(const VolumeKeeper& keeper);

  private:
    explicit ResizeLock(Fd file) : file_(std::move(file)) {}
    Fd file_;
};

/// Makes the backing of this node long enough, and the part from `from` on zeroes. Takes as long as
/// a disk needs that has no fast way.
[[nodiscard]] Result<void> grow_own_backing(VolumeKeeper& keeper, const ResizeLock& lock,
                                            std::uint64_t from, std::uint64_t to);

/// The peer's request `resize-replica` to a standby, with `step`: `check` (answers
/// `replica_bytes`, `backing_bytes`, `is_device`), `backing`, `metadata`.
[[nodiscard]] Result<Json> resize_replica(VolumeKeeper& keeper, const Json& request);

}  // namespace mirror::daemon
