// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/next_step.hpp"

#include <cerrno>
#include <system_error>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/lineage/promotion.hpp"
#include "daemon/json_member.hpp"
#include "daemon/settings_diff.hpp"

namespace mirror::daemon {
namespace {

std::string peer_of(const VolumeFacts& facts) {
    return facts.config->peer_of(facts.node);
}

const Json& engines_peer(const VolumeFacts& facts) {
    return member(facts.engine, "peer");
}

bool is_link_up(const VolumeFacts& facts) {
    return member(engines_peer(facts), "link") == "connected" ||
           (facts.session && facts.session->connections > 0);
}

bool has_gaps(const VolumeFacts& facts) {
    return member(engines_peer(facts), "incomplete").is_object();
}

/// Whether a plain promotion of `ours` would be allowed; without `theirs`: alone.
bool may_be_promoted(const VolumeFacts& facts, const ReplicaSummary& ours,
                     const std::optional<ReplicaSummary>& theirs, const std::string& peer) {
    PromotionRequest request;
    request.ours = ours;
    request.peer = theirs;
    request.peer_name = peer;
    request.volume_name = facts.config->name;
    return judge_promotion(request).allowed;
}

std::string bring_back(const std::string& peer) {
    return fmt::format(
        "start mirrord on {}, or bring its machine or the link to it back (mirrorctl check shows "
        "which)",
        peer);
}

/// Whatever mirrord is on its way to do.
std::string wait_for_sync(const std::string& name) {
    return fmt::format("nothing; to wait for the end: mirrorctl wait {} --for in-sync", name);
}

/// Where both answer, and their settings are not the same; else nothing.
std::string step_when_settings_differ(const VolumeFacts& facts) {
    const std::string& name = facts.config->name;
    const std::string peer = peer_of(facts);
    if (!facts.peer.reachable || !facts.peer.answer ||
        !facts.peer.answer->settings.contains(name)) {
        return {};
    }
    const auto same =
        require_same_settings(name, facts.node, once_made(facts.config->shared_settings()), peer,
                              once_made(facts.peer.answer->settings.at(name)));
    return same ? std::string() : same.error().remedy;
}

std::string place_of_backing(const VolumeFacts& facts) {
    const auto backing = facts.config->backing.find(facts.node);
    return backing == facts.config->backing.end() ? std::string("the backing") : backing->second;
}

/// Two replicas of different volumes: nothing can say which one is meant.
std::string step_when_unrelated(const VolumeFacts& facts) {
    return fmt::format(
        "choose the node whose replica is to be given up; there stop mirrord, move the folder {0} "
        "of its STATE_DIR and its backing away, start mirrord, and then: mirrorctl create {0}",
        facts.config->name);
}

bool is_unrelated(const VolumeFacts& facts) {
    const PeerVolume* peer = facts.peer.volume(facts.config->name);
    return facts.summary && peer != nullptr && facts.summary->volume != peer->summary.volume;
}

std::string step_when_broken(const VolumeFacts& facts) {
    const std::string& name = facts.config->name;
    const std::string peer = peer_of(facts);
    if (facts.place == Place::changing) {
        return "nothing: that ends on its own";
    }
    if (is_unrelated(facts)) {
        return step_when_unrelated(facts);
    }
    if (has_gaps(facts)) {
        return fmt::format(
            "rewrite these ranges, for example by restoring the files in them from a "
            "backup: the mirror is then in sync again automatically. If the disk can be read "
            "again: mirrorctl "
            "resync {}",
            name);
    }
    if (is_link_up(facts)) {
        return wait_for_sync(name);
    }
    if (!facts.peer.reachable) {
        return facts.peer.remedy.empty()
                   ? bring_back(peer) + "; the resync then starts automatically"
                   : facts.peer.remedy;
    }
    if (std::string step = step_when_settings_differ(facts); !step.empty()) {
        return step;
    }
    const PeerVolume* theirs = facts.peer.volume(name);
    if (theirs != nullptr && theirs->state == "failed" && !theirs->advice.empty()) {
        return step_on(peer, theirs->advice);
    }
    return fmt::format("{} can be reached; start the resync: mirrorctl connect {}", peer, name);
}

std::string step_when_metadata_failed(const VolumeFacts& facts) {
    const std::string& name = facts.config->name;
    const std::string writable =
        "check the filesystem of the metadata named above: free space, and whether it is writable "
        "(the "
        "backing is not at fault)";
    if (facts.place != Place::active) {
        return fmt::format("{}; if the metadata are lost: mirrorctl create {} --replace", writable,
                           name);
    }
    return is_link_up(facts) ? fmt::format(
                                   "{}; then mirrorctl switch {} --to {}: this replica is then "
                                   "compared as a whole and resynced",
                                   writable, name, peer_of(facts))
                             : writable + "; the volume then continues automatically";
}

std::string step_when_failed(const VolumeFacts& facts, const std::string& why) {
    const std::string& name = facts.config->name;
    const bool served_by_peer = facts.place == Place::active && is_link_up(facts);
    if (served_by_peer && is_out_of_space(why)) {
        return fmt::format(
            "make space on {} for the backing of {}, then mirrorctl switch {} --to {}: this "
            "replica is then compared as a whole and resynced",
            facts.node, name, name, peer_of(facts));
    }
    const bool is_of_metadata = member(facts.engine, "fault") == "metadata" ||
                                (facts.engine.is_null() && facts.fault == "metadata");
    if (is_of_metadata) {
        return step_when_metadata_failed(facts);
    }
    if (facts.place == Place::standby) {
        return fmt::format(
            "repair the disk of {} under {}: what it still has is compared, and the resync starts "
            "automatically (the reason is in: mirrorctl events {}). If the disk is a new one: "
            "mirrorctl create {} --replace",
            facts.node, place_of_backing(facts), name, name);
    }
    const std::string repair = fmt::format(
        "repair or replace the backing named above, then mirrorctl create {} --replace "
        "(the reason is in: mirrorctl events {})",
        name, name);
    return served_by_peer ? fmt::format("mirrorctl switch {} --to {}; then here {}", name,
                                        peer_of(facts), repair)
                          : repair;
}

/// On a standby that hears nothing of its peer.
std::string step_when_peer_unknown(const VolumeFacts& facts) {
    const std::string& name = facts.config->name;
    const std::string peer = peer_of(facts);
    const std::string back = facts.peer.remedy.empty() ? bring_back(peer) : facts.peer.remedy;
    if (facts.waits_for_peer) {
        return fmt::format(
            "{}; {} then continues to serve {}. If nobody uses {} on {}: mirrorctl "
            "promote {}",
            back, facts.node, name, name, peer, name);
    }
    if (facts.summary && may_be_promoted(facts, *facts.summary, std::nullopt, peer)) {
        return fmt::format("mirrorctl promote {}: {} was active last and lacks nothing; or {}",
                           name, facts.node, back);
    }
    return fmt::format(
        "{}. If {} is down for good, this shows what a takeover would lose: mirrorctl promote {} "
        "--force --dry-run",
        back, peer, name);
}

/// A resize that was cut short leaves two sizes.
bool is_half_resized(const VolumeFacts& facts) {
    const PeerVolume* peer = facts.peer.volume(facts.config->name);
    return facts.summary && peer != nullptr && facts.summary->volume == peer->summary.volume &&
           facts.summary->size != peer->summary.size;
}

std::string step_when_in_sync(const VolumeFacts& facts) {
    const std::string& name = facts.config->name;
    if (unrepaired_bytes(facts) != 0) {
        return fmt::format(
            "find out which node's disk is bad; if it is that of the standby: mirrorctl verify {} "
            "--repair. If it is that of the active node, switch first",
            name);
    }
    return is_half_resized(facts) ? fmt::format("mirrorctl resize {}", name) : std::string();
}

}  // namespace

bool is_out_of_space(const std::string& why) {
    return why.find(std::generic_category().message(ENOSPC)) != std::string::npos;
}

std::string step_on(const std::string& node, const std::string& step) {
    return step.starts_with("mirrorctl ") ? fmt::format("on {}: {}", node, step) : step;
}

std::string step_when_nobody_is_active(const VolumeFacts& facts, const ReplicaSummary& theirs) {
    const std::string& name = facts.config->name;
    const std::string& ours_name = facts.node;
    const std::string peer = peer_of(facts);
    const bool here = may_be_promoted(facts, *facts.summary, theirs, peer);
    const bool there = may_be_promoted(facts, theirs, *facts.summary, ours_name);
    // Who was active last and died has what nobody has acknowledged; both nodes name the same one.
    const bool better_there = theirs.unclean && !facts.summary->unclean;
    if (!here && !there) {
        return fmt::format(
            "mirrorctl promote {} --force --dry-run, on {} and on {}, shows what each would lose",
            name, ours_name, peer);
    }
    const std::string promote = fmt::format("mirrorctl promote {}", name);
    return !here || (there && better_there) ? fmt::format("{} on {}", promote, peer) : promote;
}

std::string next_step(const VolumeFacts& facts, const StateWord& state) {
    // Where the reason is known better than by the word.
    if (!state.advice.empty()) {
        return state.advice;
    }
    const std::string& name = facts.config->name;
    if (state.word == "in-sync") {
        return step_when_in_sync(facts);
    }
    if (state.word == "broken") {
        return step_when_broken(facts);
    }
    if (state.word == "resyncing") {
        return wait_for_sync(name);
    }
    if (state.word == "starting") {
        return fmt::format(
            "nothing, if that lasts for a moment only; the reason is in: mirrorctl "
            "events {}",
            name);
    }
    if (state.word == "diverged") {
        return fmt::format(
            "choose which node's data to keep; nothing is overwritten until then. What would be "
            "lost: mirrorctl resolve {} --keep NODE --dry-run",
            name);
    }
    if (state.word == "peer-unknown") {
        return step_when_peer_unknown(facts);
    }
    if (state.word == "failed") {
        return step_when_failed(facts, state.why);
    }
    if (state.word == "new" && facts.peer.volume(name) != nullptr) {
        return facts.last_write == WallTime{}
                   ? fmt::format("mirrorctl create {}: it is filled from {}", name, peer_of(facts))
                   : fmt::format(
                         "mirrorctl create {} --replace: it is filled from {}, and what {} "
                         "holds is overwritten",
                         name, peer_of(facts), place_of_backing(facts));
    }
    if (state.word == "new") {
        return fmt::format(
            "mirrorctl create {0} if that has not been done, then mirrorctl promote {0}", name);
    }
    return {};
}

}  // namespace mirror::daemon
