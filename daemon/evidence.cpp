// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/evidence.hpp"

#include <algorithm>
#include <chrono>
#include <sys/stat.h>

#include "core/base/json.hpp"
#include "core/control/messages.hpp"
#include "core/lineage/handshake.hpp"
#include "core/undo/undo_folder.hpp"

namespace mirror::daemon {
namespace {

Json describe(const Generation& generation) {
    return {{"generation", to_string(generation.id)},
            {"began_at", control::encode(generation.began)},
            {"node", generation.node},
            {"reason", to_string(generation.reason)},
            {"words", generation_words(generation)}};
}

/// Newest first; all of it where there is no ancestor.
Json lineage_since(const Lineage& lineage, const Generation* ancestor) {
    Json entries = Json::array();
    for (const Generation& generation : lineage.entries()) {
        if (ancestor != nullptr && generation.id == ancestor->id) {
            break;
        }
        entries.push_back(describe(generation));
    }
    return entries;
}

Json side(const ReplicaSummary& summary, WallTime last_write, const Generation* ancestor) {
    return {{"node", summary.node},
            {"role", to_string(summary.role)},
            {"replica_state", to_string(summary.state)},
            {"lineage", lineage_since(summary.lineage, ancestor)},
            {"last_write_at", control::encode(last_write)},
            {"break_at", control::encode(summary.break_at)},
            {"changed_bytes", summary.changed_bytes},
            {"may_differ_bytes", std::min(summary.intent_bytes, summary.size)}};
}

}  // namespace

const Generation* find_ancestor(const Lineage& ours, const Lineage& theirs) {
    const auto& entries = ours.entries();
    const auto found = std::find_if(entries.begin(), entries.end(), [&](const Generation& each) {
        return theirs.contains(each.id);
    });
    return found == entries.end() ? nullptr : &*found;
}

std::string generation_words(const Generation& generation) {
    const std::string& node = generation.node;
    switch (generation.reason) {
        case GenerationReason::created:
            return fmt::format("the volume was created on {}", node);
        case GenerationReason::peer_lost:
            return fmt::format("{} was active and continued without its peer", node);
        case GenerationReason::forced_promotion:
            return fmt::format("{} was promoted with --force", node);
        case GenerationReason::fenced_promotion:
            return fmt::format("{} was promoted after its peer was fenced", node);
        case GenerationReason::local_disk_failed:
            return fmt::format("the disk of {} failed, and its peer had the only good copy", node);
        case GenerationReason::resolved:
            return fmt::format("a split brain was resolved on {}", node);
    }
    return fmt::format("{} began it", node);
}

Json split_brain_evidence(const VolumeFacts& facts, const StateWord& state) {
    if (state.word != "diverged" || !facts.summary || !facts.peer.answer) {
        return {};
    }
    const auto found = facts.peer.answer->volumes.find(facts.config->name);
    if (found == facts.peer.answer->volumes.end()) {
        return {};
    }
    const ReplicaSummary& ours = *facts.summary;
    const PeerVolume& theirs = found->second;
    ReplicaSummary their_summary = theirs.summary;
    their_summary.role = theirs.role;
    if (!hold_diverged_data(ours, their_summary)) {
        return {};  // its last answer is older than the split brain
    }
    const Generation* ancestor = find_ancestor(ours.lineage, their_summary.lineage);
    const auto skew = facts.peer.answer->time - facts.peer.last_seen;
    return {{"ancestor", ancestor == nullptr ? Json() : describe(*ancestor)},
            {"here", side(ours, facts.last_write, ancestor)},
            {"there", side(their_summary, theirs.last_write, ancestor)},
            {"clock_skew_seconds", rounded_seconds(skew)}};
}

WallTime last_write_of(const std::string& backing_path) {
    struct stat info {};
    if (::stat(backing_path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
        return {};
    }
    return WallTime(std::chrono::seconds(info.st_mtim.tv_sec) +
                    std::chrono::microseconds(info.st_mtim.tv_nsec / 1000));
}

Json undo_entries(const std::string& state_dir, const std::string& volume) {
    Json entries = Json::array();
    const auto found = UndoFolder(state_dir, volume).list();
    for (const UndoEntry& entry : found.value_or(std::vector<UndoEntry>{})) {
        const bool readable = entry.info.has_value();
        entries.push_back({{"id", entry.id},
                           {"path", entry.path},
                           {"made_at", readable ? control::encode(entry.info->made_at) : Json()},
                           {"node", readable ? Json(entry.info->node) : Json()},
                           {"kept", readable ? Json(entry.info->kept) : Json()},
                           {"saved_bytes", readable ? Json(entry.saved_bytes) : Json()},
                           {"file_bytes", entry.file_bytes},
                           {"problem", readable ? Json() : Json(entry.problem)}});
    }
    return entries;
}

}  // namespace mirror::daemon
