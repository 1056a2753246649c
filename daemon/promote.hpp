// SPDX-License-Identifier: BSD-3-Clause
// Taking over a volume, and agreeing to the peer's taking over: the rules are in
// core/lineage/promotion.hpp, here they are carried out. Called from a request's thread.
#pragma once

#include "core/lineage/promotion.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

struct PromoteOptions {
    bool force = false;
    bool fenced = false;
    bool dry_run = false;
    /// Judge as if the active peer had been demoted: the check before a switch. With dry_run only.
    bool after_demote = false;
    std::string cause = "promote";  ///< what the hooks are told
};

/// Answers `text`, `loss`, `phases`, `seconds`.
[[nodiscard]] Result<Json> promote(VolumeKeeper& keeper, const PromoteOptions& options);

/// The peer `node` is about to take over: gives up `last_active`, durably, and answers `summary`.
[[nodiscard]] Result<Json> agree(VolumeKeeper& keeper, const std::string& node,
                                 const ReplicaSummary& theirs);

}  // namespace mirror::daemon
