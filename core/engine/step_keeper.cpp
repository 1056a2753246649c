// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/step_keeper.hpp"

#include "core/meta/transitions.hpp"

namespace mirror {

StepKeeper::StepKeeper(MetaFile& meta)
    : meta_(meta), last_checkpoint_(meta.superblock().steps.maps_from) {}

Result<std::uint64_t> StepKeeper::offer(std::uint64_t above) {
    std::uint64_t step = 0;
    auto recorded = meta_.update([&](Superblock& block) { step = offer_step(block, above); });
    return recorded ? Result<std::uint64_t>(step) : Failure(recorded.error());
}

Result<void> StepKeeper::taken(std::uint64_t step, const std::function<void(Superblock&)>& also) {
    return meta_.update([&](Superblock& block) {
        step_taken(block, step);
        if (also) {
            also(block);
        }
    });
}

StepKeeper::Outcome StepKeeper::raise(Session& session) {
    return raise(session, true, {});
}

StepKeeper::Outcome StepKeeper::raise_for_checkpoint(Session& session, IntentMap::Clear what) {
    std::uint64_t step = 0;
    auto outcome = raise(session, false, [&](Superblock& block) {
        step = block.steps.taken;
        block.steps.maps_from = what == IntentMap::Clear::all ? step : last_checkpoint_.load();
    });
    if (outcome.here && outcome.there) {
        last_checkpoint_ = step;
    }
    return outcome;
}

StepKeeper::Outcome StepKeeper::raise(Session& session, bool urgent,
                                      const std::function<void(Superblock&)>& also) {
    const auto step = offer();
    if (!step) {
        return {Failure(step.error()), {}};
    }
    // Meanwhile the session may end, and another one begin with a larger number: then this one is
    // refused there, or it is a number that the standby had before.
    if (auto told = session.tell_step(*step, urgent); !told) {
        return {{}, told};
    }
    return {taken(*step, also), {}};
}

}  // namespace mirror
