// SPDX-License-Identifier: BSD-3-Clause
// The active's part in raising the step (core/lineage/steps.hpp): each of its durable parts in the
// metadata here, and the question to the standby in between.
//
// Called by the peer's supervisor (a session begins), by writing threads (the first write after a
// quiet time) and by whoever makes a checkpoint, one of them at a time. No lock is held while the
// standby is asked: numbers are given out once, so that it does not matter who is told first.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "core/engine/session.hpp"
#include "core/maps/intent_map.hpp"
#include "core/meta/meta_file.hpp"

namespace mirror {

class StepKeeper {
  public:
    explicit StepKeeper(MetaFile& meta);

    /// Durable before it returns. Larger than `above`, which is the newest that the standby knows.
    [[nodiscard]] Result<std::uint64_t> offer(std::uint64_t above = 0);
    /// The standby has it. `also` is recorded in the same moment.
    [[nodiscard]] Result<void> taken(std::uint64_t step,
                                     const std::function<void(Superblock&)>& also = {});

    /// What went wrong, and where: a standby that can't be asked ends the session, metadata that
    /// can't be written are a failed disk.
    struct Outcome {
        Result<void> here;
        Result<void> there;
    };
    /// Before the first write after a quiet time is acknowledged.
    [[nodiscard]] Outcome raise(Session& session);
    /// Everything written so far is durable on both: before intents are cleared.
    [[nodiscard]] Outcome raise_for_checkpoint(Session& session, IntentMap::Clear what);

  private:
    [[nodiscard]] Outcome raise(Session& session, bool urgent,
                                const std::function<void(Superblock&)>& also);

    MetaFile& meta_;
    /// Of the checkpoint before. One that leaves recent intents alone clears what was at rest then.
    std::atomic<std::uint64_t> last_checkpoint_;
};

}  // namespace mirror
