// SPDX-License-Identifier: BSD-3-Clause
#include "core/lineage/promotion.hpp"

#include <vector>

#include <fmt/format.h>

#include "core/base/units.hpp"
#include "core/lineage/handshake.hpp"
#include "core/lineage/relation.hpp"

namespace mirror {
namespace {

/// One thing that speaks against a promotion and that --force may set aside.
struct Obstacle {
    std::string reason;
    std::string remedy;
    std::string loss;
};

bool peer_may_serve(const PromotionRequest& request) {
    return !request.peer || request.peer->state == ReplicaState::up_to_date ||
           request.peer->state == ReplicaState::stale;
}

std::string why_no_answer(const PromotionRequest& request) {
    return request.peer_absence.empty() ? fmt::format("{} can't be reached", request.peer_name)
                                        : request.peer_absence;
}

std::string make_it_answer(const PromotionRequest& request) {
    if (request.peer_absence.empty()) {
        return fmt::format("make {} reachable", request.peer_name);
    }
    return request.peer_remedy.empty() ? "correct that" : request.peer_remedy;
}

/// What an absent peer may do meanwhile. One that answers without a replica serves none.
std::string what_it_may(const PromotionRequest& request) {
    return request.peer_has_no_replica ? "may have continued alone before" : "may be active";
}

/// "on beta: mirrorctl promote r0": verbs act for the node they are typed on. Empty when the peer
/// would be refused as well.
std::string promote_there(const PromotionRequest& request) {
    if (!peer_may_serve(request)) {
        return {};
    }
    return fmt::format("{}on {}: mirrorctl promote {}",
                       request.peer ? "" : fmt::format("{}, then ", make_it_answer(request)),
                       request.peer_name, request.volume_name);
}

PromotionVerdict refuse(std::string reason, std::string remedy) {
    PromotionVerdict verdict;
    verdict.reason = std::move(reason);
    verdict.remedy = std::move(remedy);
    return verdict;
}

std::string loss_without_peer(const PromotionRequest& request);

/// A resync that could not read everything: what is missing is known, and the rest is whole.
Obstacle gaps_obstacle(const PromotionRequest& request) {
    const std::string& node = request.ours.node;
    const std::string amount = format_size(request.ours.lacking_bytes);
    const std::string rest =
        request.peer ? std::string()
                     : fmt::format("; apart from these, {}", loss_without_peer(request));
    return {fmt::format("the replica of {} lacks {} that {} could not read for it", node, amount,
                        request.peer_name),
            promote_there(request),
            fmt::format("up to {} are old or missing on {}, in the files that use these ranges "
                        "(see resync-incomplete in mirrorctl events {}){}",
                        amount, node, request.volume_name, rest)};
}

Obstacle inconsistent_obstacle(const PromotionRequest& request) {
    const std::string& node = request.ours.node;
    if (request.ours.lacking_bytes != 0) {
        return gaps_obstacle(request);
    }
    return {
        fmt::format("the replica of {} is half overwritten by a resync that has not ended", node),
        promote_there(request),
        fmt::format("the replica of {} is a mixture of old and new blocks that no disk ever "
                    "held: the filesystem on it may be damaged, and files that {} has whole "
                    "may be lost",
                    node, request.peer_name)};
}

Obstacle stale_obstacle(const PromotionRequest& request) {
    const ReplicaSummary& ours = request.ours;
    const std::string since =
        ours.break_at == WallTime{}
            ? std::string("since the mirror broke")
            : fmt::format("since the mirror broke at {}", format_rfc3339(ours.break_at));
    return {fmt::format("the replica of {} is stale: {} is known to have continued without it",
                        ours.node, request.peer_name),
            promote_there(request),
            fmt::format("the writes of {} {} are not on {}", request.peer_name, since, ours.node)};
}

Obstacle yielded_obstacle(const PromotionRequest& request) {
    const std::string& node = request.ours.node;
    return {fmt::format("the data of {} was given up in favour of that of {} (mirrorctl resolve)",
                        node, request.peer_name),
            promote_there(request),
            fmt::format("{} has writes that {} lacks and that were chosen to be kept",
                        request.peer_name, node)};
}

Obstacle behind_obstacle(const PromotionRequest& request, const ReplicaSummary& peer) {
    const std::string& node = request.ours.node;
    const std::string amount = peer.changed_bytes == 0 ? std::string("an unknown amount of data")
                                                       : "up to " + format_size(peer.changed_bytes);
    return {fmt::format("{} has newer data than {}", request.peer_name, node),
            peer_may_serve(request)
                ? fmt::format("{}; then, when the resync has ended, mirrorctl switch {} --to {}",
                              promote_there(request), request.volume_name, node)
                : std::string(),
            fmt::format("{} that {} has and {} lacks", amount, request.peer_name, node)};
}

/// Nobody can say how much: the replica that was put back has forgotten what it knew.
Obstacle put_back_obstacle(const PromotionRequest& request, const ReplicaSummary& peer) {
    const std::string& node = request.ours.node;
    return {
        describe_put_back(request.ours, peer), promote_there(request),
        fmt::format("everything written since the older state that {} was restored to, an unknown "
                    "amount of data (it stays on {} until mirrorctl resolve, which saves it first)",
                    node, request.peer_name)};
}

Obstacle doubtful_obstacle(const PromotionRequest& request) {
    const std::string& node = request.ours.node;
    return {
        fmt::format("the backing of {} was replaced or changed while it was closed: its content is "
                    "not what {} last recorded",
                    node, node),
        promote_there(request),
        fmt::format("everything that the backing of {} lacks or has changed: it is served as it is",
                    node)};
}

Obstacle diverged_obstacle(const PromotionRequest& request, const ReplicaSummary& peer) {
    const std::string& node = request.ours.node;
    const std::string amount = peer.changed_bytes == 0
                                   ? std::string("the writes")
                                   : "up to " + format_size(peer.changed_bytes) + " of writes";
    return {fmt::format("{} and {} have diverged: each has writes that the other lacks", node,
                        request.peer_name),
            fmt::format("mirrorctl resolve {} --keep NODE", request.volume_name),
            fmt::format("{} that {} accepted without {} are not here, and keeping {} discards them",
                        amount, request.peer_name, node, node)};
}

/// A standby can't be smaller than its active. Nothing is in the part that only we have.
Obstacle larger_obstacle(const PromotionRequest& request, const ReplicaSummary& peer) {
    const std::string& node = request.ours.node;
    return {fmt::format("{} has {} bytes and {} has only {}: a resize was cut short", node,
                        request.ours.size, request.peer_name, peer.size),
            fmt::format("while {} is active: mirrorctl resize {}", request.peer_name,
                        request.volume_name),
            fmt::format("no data, but {} can't be a standby again before mirrorctl resize {}",
                        request.peer_name, request.volume_name)};
}

/// The strongest first: its reason and remedy are what the person reads.
std::vector<Obstacle> find_obstacles(const PromotionRequest& request) {
    const ReplicaSummary& ours = request.ours;
    std::vector<Obstacle> obstacles;
    if (request.peer && hold_diverged_data(ours, *request.peer)) {
        obstacles.push_back(diverged_obstacle(request, *request.peer));
    }
    if (!ours.yields_to.is_none()) {
        obstacles.push_back(yielded_obstacle(request));
    }
    if (ours.state == ReplicaState::inconsistent) {
        obstacles.push_back(inconsistent_obstacle(request));
    }
    if (ours.doubtful) {
        obstacles.push_back(doubtful_obstacle(request));
    } else if (request.peer && was_put_back(ours, *request.peer)) {
        obstacles.push_back(put_back_obstacle(request, *request.peer));
    } else if (request.peer && relate(ours, *request.peer) == Relation::behind) {
        obstacles.push_back(behind_obstacle(request, *request.peer));
    } else if (ours.state == ReplicaState::stale) {
        obstacles.push_back(stale_obstacle(request));
    }
    if (request.peer && request.ours.size > request.peer->size) {
        obstacles.push_back(larger_obstacle(request, *request.peer));
    }
    return obstacles;
}

std::string join_losses(const std::vector<Obstacle>& obstacles) {
    std::string joined;
    for (const Obstacle& obstacle : obstacles) {
        joined += (joined.empty() ? "" : "; ") + obstacle.loss;
    }
    return joined;
}

PromotionVerdict forced(std::string reason, std::string loss) {
    PromotionVerdict verdict;
    verdict.allowed = true;
    verdict.new_generation = GenerationReason::forced_promotion;
    verdict.reason = std::move(reason);
    verdict.loss = std::move(loss);
    return verdict;
}

/// Decided by the obstacles alone; the caller says whether the peer must agree.
PromotionVerdict judge_obstacles(const PromotionRequest& request,
                                 const std::vector<Obstacle>& obstacles) {
    if (request.force) {
        return forced(fmt::format("forced, although {}", obstacles.front().reason),
                      join_losses(obstacles));
    }
    std::string reason = obstacles.front().reason;
    if (request.fenced) {
        reason += "; --fenced does not change this";
    }
    std::string remedy = obstacles.front().remedy;
    remedy += remedy.empty() ? "--force, with this loss: " : ", or --force with this loss: ";
    return refuse(std::move(reason), remedy + join_losses(obstacles));
}

/// A peer of another volume can't be asked for anything.
std::optional<std::string> mismatch(const PromotionRequest& request, const ReplicaSummary& peer) {
    if (request.ours.volume != peer.volume) {
        return fmt::format("{} and {} hold different volumes ({} and {})", request.ours.node,
                           request.peer_name, short_form(request.ours.volume),
                           short_form(peer.volume));
    }
    return std::nullopt;
}

PromotionVerdict judge_with_peer(const PromotionRequest& request, const ReplicaSummary& peer) {
    const ReplicaSummary& ours = request.ours;
    if (peer.role == Role::active) {
        // Two actives are never made; but a node that was taken over may say so for ever.
        const bool insists = request.force || request.fenced;
        return refuse(
            fmt::format("{} is active", request.peer_name),
            fmt::format("mirrorctl switch {} --to {} (or on {}: mirrorctl demote {}){}",
                        request.volume_name, ours.node, request.peer_name, request.volume_name,
                        insists
                            ? fmt::format("; if {} can't be trusted any more, cut it off first: "
                                          "mirrord(8), A NODE THAT WAS TAKEN OVER",
                                          request.peer_name)
                            : ""));
    }
    if (const auto what = mismatch(request, peer)) {
        return refuse(*what, "mirrorctl check");
    }
    const std::vector<Obstacle> obstacles = find_obstacles(request);
    PromotionVerdict verdict;
    if (!obstacles.empty()) {
        verdict = judge_obstacles(request, obstacles);
    } else {
        verdict.allowed = true;
        verdict.reason =
            peer.unclean
                ? fmt::format(
                      "{} was active and did not end cleanly; {} has every acknowledged write",
                      request.peer_name, ours.node)
                : fmt::format("{} is up to date and {} is reachable as a standby", ours.node,
                              request.peer_name);
    }
    // A failed disk may have kept the peer from writing down that it gave its say to us.
    const bool peer_has_a_say = peer.last_active && !missed_by_failed_disk(ours, peer);
    verdict.needs_agreement = verdict.allowed && (!ours.last_active || peer_has_a_say);
    return verdict;
}

std::string loss_without_peer(const PromotionRequest& request) {
    const ReplicaSummary& ours = request.ours;
    const std::string alone = fmt::format("every write that {} accepted alone", request.peer_name);
    if (ours.break_at != WallTime{}) {
        return fmt::format("{} lost contact with {} at {}: {} after that is lost", ours.node,
                           request.peer_name, format_rfc3339(ours.break_at), alone);
    }
    const std::string contact =
        request.last_write == WallTime{}
            ? std::string()
            : fmt::format(" (the last write came at {})", format_rfc3339(request.last_write));
    return fmt::format(
        "every acknowledged write is on {}{}, unless {} continued without it: then {} is lost",
        ours.node, contact, request.peer_name, alone);
}

PromotionVerdict judge_alone(const PromotionRequest& request) {
    const ReplicaSummary& ours = request.ours;
    const std::vector<Obstacle> obstacles = find_obstacles(request);
    if (!obstacles.empty()) {
        return judge_obstacles(request, obstacles);
    }
    PromotionVerdict verdict;
    if (ours.last_active) {
        verdict.allowed = true;
        verdict.reason = fmt::format("{}, but {} was the last active node and has not handed over",
                                     why_no_answer(request), ours.node);
        return verdict;
    }
    if (request.fenced) {
        verdict.allowed = true;
        verdict.new_generation = GenerationReason::fenced_promotion;
        verdict.reason = fmt::format("{} is up to date, and {} is confirmed to be down", ours.node,
                                     request.peer_name);
        verdict.loss = loss_without_peer(request);
        return verdict;
    }
    if (request.force) {
        return forced(
            fmt::format("forced, although {} and {}", why_no_answer(request), what_it_may(request)),
            loss_without_peer(request));
    }
    return refuse(
        fmt::format("{} and {}: {} was not active last", why_no_answer(request),
                    what_it_may(request), ours.node),
        fmt::format(
            "{}, or pass --fenced when a cluster manager has confirmed that {} is down, or --force "
            "to continue without it (if it is still running, this creates a split brain)",
            make_it_answer(request), request.peer_name));
}

PromotionVerdict refuse_unusable(const PromotionRequest& request) {
    const ReplicaSummary& ours = request.ours;
    const std::string reason =
        ours.state == ReplicaState::failed
            ? fmt::format("the disk under the replica of {} has failed", ours.node)
            : fmt::format("the replica of {} is new and has never been filled", ours.node);
    if (!peer_may_serve(request)) {
        return refuse(fmt::format("{}, and the replica of {} is {}", reason, request.peer_name,
                                  to_string(request.peer->state)),
                      fmt::format("mirrorctl create {} on one of them, then restore a backup",
                                  request.volume_name));
    }
    return refuse(reason, promote_there(request));
}

}  // namespace

namespace {

PromotionVerdict judge_replica(const PromotionRequest& request) {
    const ReplicaSummary& ours = request.ours;
    if (ours.role == Role::active) {
        return refuse(fmt::format("{} is active already", ours.node), "");
    }
    if (request.peer && request.peer->role == Role::active) {
        return judge_with_peer(request, *request.peer);
    }
    if (ours.state == ReplicaState::failed || ours.state == ReplicaState::fresh) {
        return refuse_unusable(request);
    }
    return request.peer ? judge_with_peer(request, *request.peer) : judge_alone(request);
}

}  // namespace

PromotionVerdict judge_promotion(const PromotionRequest& request) {
    PromotionVerdict verdict = judge_replica(request);
    verdict.session = request.ours.session;
    verdict.state = request.ours.state;
    verdict.generation = request.ours.lineage.current();
    return verdict;
}

PromotionVerdict judge_agreement(const ReplicaSummary& candidate, const ReplicaSummary& ours,
                                 const std::string& volume_name) {
    PromotionRequest request;
    request.ours = candidate;
    request.peer = ours;
    request.peer_name = ours.node;
    request.volume_name = volume_name;
    PromotionVerdict verdict = judge_promotion(request);
    if (!verdict.allowed) {
        // --force over there sets aside what speaks against that replica, never two actives.
        request.force = true;
        verdict = judge_promotion(request);
    }
    return verdict;
}

std::optional<std::string> why_not_serve(const ReplicaSummary& ours, const std::string& peer) {
    if (ours.state == ReplicaState::failed) {
        return fmt::format("the replica of {} failed, and {} continued without it", ours.node,
                           peer);
    }
    if (!ours.last_active) {
        return fmt::format("{} was allowed to be promoted instead", peer);
    }
    return std::nullopt;
}

Error no_other_engine(const std::string& volume, const std::string& node, const std::string& peer) {
    return {ErrorKind::refused,
            fmt::format("the replica of {} on {} failed: another engine there could not serve it, "
                        "and the one that runs serves the copy of {}",
                        volume, node, peer),
            fmt::format("mirrorctl switch {} --to {}", volume, peer)};
}

std::optional<std::string> why_not_resume(const ReplicaSummary& ours,
                                          const ReplicaSummary& theirs) {
    if (theirs.role == Role::active) {
        return fmt::format("{} is active", theirs.node);
    }
    if (ours.doubtful) {
        return fmt::format("the backing of {} is not as it was left", ours.node);
    }
    if (was_put_back(ours, theirs)) {
        return describe_put_back(ours, theirs);
    }
    const Relation relation = relate(ours, theirs);
    const bool gave_up = yields(theirs, ours);
    if (relation == Relation::behind || (relation == Relation::diverged && !gave_up)) {
        return fmt::format("{} has continued from the data of {}", theirs.node, ours.node);
    }
    // One that was half overwritten when it was forced begins a history of its own.
    if (relation == Relation::unrelated && ours.volume == theirs.volume && !gave_up &&
        theirs.state == ReplicaState::up_to_date) {
        return fmt::format("{} was promoted by force with other data than those of {}", theirs.node,
                           ours.node);
    }
    if (theirs.last_active && !ours.last_active) {
        return fmt::format("{} was active after {}", theirs.node, ours.node);
    }
    return std::nullopt;
}

}  // namespace mirror
