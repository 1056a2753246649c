// SPDX-License-Identifier: BSD-3-Clause
// What a change of role means for a replica's superblock, as pure functions: mirrord and the engine
// apply them in MetaFile::update(), and the model test applies the same ones, so that the rules
// that it tries are the rules that run. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "core/lineage/promotion.hpp"
#include "core/meta/superblock.hpp"

namespace mirror {

/// An allowed promotion. `generation` is taken only where the verdict wants a new one.
void take_over(Superblock& block, const PromotionVerdict& verdict, GenerationId generation,
               WallTime now, const std::string& node);
/// The peer may be promoted in our stead: from here on we may not go on alone.
void give_up_token(Superblock& block);
/// An engine is about to take writes.
void begin_to_serve(Superblock& block);
/// A demote: everything is durable on all who take part.
void end_serving(Superblock& block, WallTime now);
/// A former active whose engine is gone, after a reboot or because the peer went on: what it
/// wrote and did not answer may be there, so it stays unclean.
void settle(Superblock& block);
/// A former active that the peer did not replace goes on where it was.
void resume(Superblock& block);
/// The first write of an engine's run that is acknowledged without the peer, and the first one
/// after a session that got in sync. Every one begins a generation: where an engine is started
/// often while the peer is away, those in the middle are forgotten.
void go_alone(Superblock& block, GenerationId generation, WallTime now, WallTime break_at,
              const std::string& node);
/// The generation in `offer` was offered to the peer, which may have it: it becomes ours, if it is
/// not yet.
void take_offer(Superblock& block, const Lineage& offer);
/// An active is about to ask the standby to take a step, larger than `above`, too. Returns it.
std::uint64_t offer_step(Superblock& active, std::uint64_t above);
/// The standby has taken it.
void step_taken(Superblock& active, std::uint64_t step);
/// A session begins with this step: until it gets in sync the content is as of an older one.
void join_session(Superblock& standby, const SessionId& session, std::uint64_t step);
/// Everything is equal at this step.
void get_in_sync(Superblock& standby, std::uint64_t step);
/// A standby takes a step within a session.
void take_step(Superblock& standby, std::uint64_t step);
/// A standby has heard that its active went on without it; `known` is the lineage that this was
/// judged by, since a session that began meanwhile knows better.
void become_stale(Superblock& block, const Lineage& known, WallTime break_at);
/// Whether an empty replica may take its place: it never had content, its disk failed, or a resync
/// to a disk that has failed before was cut short.
[[nodiscard]] bool holds_nothing_of_worth(const Superblock& block) noexcept;
/// The step that a generation goes on from that begins here now.
[[nodiscard]] std::uint64_t step_to_go_on_from(const Superblock& block) noexcept;

}  // namespace mirror
