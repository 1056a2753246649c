// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/resolve_plan.hpp"

#include "core/lineage/handshake.hpp"
#include "core/undo/undo_folder.hpp"
#include "core/undo/undo_writer.hpp"
#include "daemon/replica_comparison.hpp"

namespace mirror::daemon {
namespace {

/// Metadata and events live on the same filesystem and must still fit afterwards.
constexpr std::uint64_t spare_bytes = 1 * MiB;

Result<void> require_diverged(const ResolveCase& facts) {
    const ReplicaSummary& loser = facts.loser;
    const ReplicaSummary& keeper = facts.keeper;
    if (yields(loser, keeper)) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format(
                      "the split brain of {} is already resolved: {} was given up in favour of {}",
                      facts.volume, loser.node, keeper.node),
                  keeper.role == Role::active
                      ? fmt::format("mirrorctl status {} shows the resync", facts.volume)
                      : fmt::format("on {}: mirrorctl promote {}", keeper.node, facts.volume)});
    }
    const Decision decision = decide(loser, keeper);
    if (decision.action == Action::diverged) {
        return {};
    }
    return Failure(Error{ErrorKind::refused,
                         fmt::format("{} has not diverged, so there is nothing to resolve: {}",
                                     facts.volume, decision.reason),
                         fmt::format("mirrorctl status {}", facts.volume)});
}

/// Resolving against both would leave nobody to take the data from.
Result<void> require_source(const ResolveCase& facts) {
    const ReplicaState state = facts.keeper.state;
    if (state == ReplicaState::up_to_date || state == ReplicaState::stale) {
        return {};
    }
    return Failure(
        Error{ErrorKind::refused,
              fmt::format("the replica of {} is {}, so nothing can be taken from it",
                          facts.keeper.node, to_string(state)),
              fmt::format("mirrorctl resolve {} --keep {}", facts.volume, facts.loser.node)});
}

std::uint64_t count_runs(const Bitmap& blocks) {
    std::uint64_t runs = 0;
    std::uint64_t from = 0;
    while (const auto run =
               from < blocks.size() ? blocks.next_run(from, blocks.size()) : std::nullopt) {
        ++runs;
        from = run->last;
    }
    return runs;
}

}  // namespace

Result<void> judge_resolution(const ResolveCase& facts) {
    if (auto diverged = require_diverged(facts); !diverged) {
        return diverged;
    }
    return require_source(facts);
}

Result<void> require_no_clients(const ResolveCase& facts) {
    if (facts.clients == 0 || facts.disconnect_clients) {
        return {};
    }
    return Failure(Error{
        ErrorKind::busy,
        fmt::format(
            "{} serves {} to {} client connection{}, and its data would be replaced under them",
            facts.loser.node, facts.volume, facts.clients, facts.clients == 1 ? "" : "s"),
        fmt::format("on {}: unmount it and stop the programs that use it, or add "
                    "--disconnect-clients: they get I/O errors",
                    facts.loser.node)});
}

Result<ResolvePlan> make_plan(VolumeKeeper& keeper, const ReplicaSummary& loser,
                              const ReplicaSummary& kept, bool no_undo) {
    ResolvePlan plan;
    const UndoFolder folder(keeper.home().state_dir, keeper.name());
    const auto space = folder.free_bytes();
    if (!space && !no_undo) {
        return Failure(space.error());
    }
    plan.free_bytes = space.value_or(0);
    const bool everything = relate(loser.lineage, kept.lineage) == Relation::unrelated ||
                            !maps_speak_of(kept, loser) || loser.state == ReplicaState::failed ||
                            loser.state == ReplicaState::fresh;
    auto blocks = find_differing_blocks(keeper, {loser.size, kept.size}, everything);
    if (!blocks) {
        if (no_undo) {
            plan.lost_bytes =
                std::min(loser.changed_bytes + loser.intent_bytes + kept.changed_bytes, loser.size);
            return plan;
        }
        Error error = blocks.error().within(
            fmt::format("{} and {} can't be compared", loser.node, kept.node));
        if (error.kind == ErrorKind::io) {
            error.remedy = "--no-undo discards what can't be read";
        }
        return Failure(error);
    }
    plan.lost_bytes = std::min(blocks->count() * block_size, loser.size);
    plan.runs = count_runs(*blocks);
    plan.undo_bytes = UndoWriter::space_for(plan.lost_bytes, plan.runs);
    plan.blocks = std::move(*blocks);
    return plan;
}

Result<void> require_space(const ResolvePlan& plan, const std::string& folder,
                           const std::string& node) {
    if (plan.undo_bytes + spare_bytes <= plan.free_bytes) {
        return {};
    }
    return Failure(
        Error{ErrorKind::no_space,
              fmt::format("the undo file may take {} and {} of {} has {} free; nothing was changed",
                          format_size(plan.undo_bytes + spare_bytes), folder, node,
                          format_size(plan.free_bytes)),
              "free some space there, or add --no-undo: then the data is gone for good"});
}

}  // namespace mirror::daemon
