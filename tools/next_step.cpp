// SPDX-License-Identifier: BSD-3-Clause
// The advice of status: one sentence a state, with the command to type.
#include <fmt/format.h>

#include "core/base/json.hpp"
#include "tools/gaps_view.hpp"
#include "tools/status_view.hpp"
#include "tools/verify_view.hpp"

namespace mirror::tools {
namespace {

std::string peer_name(const Json& volume) {
    for (const Json& peer : part_field(volume, "peers")) {
        std::string name = text_field(peer, "node");
        if (!name.empty()) {
            return name;
        }
    }
    return "the peer";
}

bool is_any_link_up(const Json& volume) {
    for (const Json& peer : part_field(volume, "peers")) {
        if (text_field(peer, "link") == "connected") {
            return true;
        }
    }
    return false;
}

std::string step_when_broken(const Json& volume, const std::string& name) {
    const std::string peer = peer_name(volume);
    if (has_gaps(volume)) {
        return fmt::format(
            "rewrite these ranges, for example by restoring the files in them from a backup: the "
            "mirror is then in sync again automatically. If the disk can be read again: mirrorctl "
            "resync {}",
            name);
    }
    if (is_any_link_up(volume)) {
        return fmt::format("{} can be reached; start the resync: mirrorctl connect {}", peer, name);
    }
    return fmt::format(
        "bring {} or the link to it back (mirrorctl check shows which); the resync then starts "
        "automatically. After mirrorctl disconnect: mirrorctl connect {}",
        peer, name);
}

std::string step_when_metadata_failed(const Json& volume, const std::string& name) {
    const std::string writable =
        "check the filesystem of the metadata named above: free space, and whether it is writable "
        "(the backing is not at fault)";
    if (text_field(volume, "role") != "active") {
        return fmt::format("{}; if the metadata are lost: mirrorctl create {} --replace", writable,
                           name);
    }
    return is_any_link_up(volume) ? fmt::format(
                                        "{}; then mirrorctl switch {} --to {}: this replica is "
                                        "then compared as a whole and resynced",
                                        writable, name, peer_name(volume))
                                  : writable + "; the volume then continues automatically";
}

std::string step_when_failed(const Json& volume, const std::string& name) {
    if (text_field(part_field(volume, "replica"), "fault") == "metadata") {
        return step_when_metadata_failed(volume, name);
    }
    const std::string repair = fmt::format(
        "repair or replace the backing named above, then mirrorctl create {} --replace "
        "(the reason is in: mirrorctl events {})",
        name, name);
    const bool served_by_peer = text_field(volume, "role") == "active" && is_any_link_up(volume);
    return served_by_peer ? fmt::format("mirrorctl switch {} --to {}; then here {}", name,
                                        peer_name(volume), repair)
                          : repair;
}

}  // namespace

std::string next_step(const Json& volume) {
    // mirrord knows the reason; the word alone may have many.
    if (std::string advice = text_field(volume, "advice"); !advice.empty()) {
        return advice;
    }
    const std::string state = text_field(volume, "state");
    const std::string name = text_field(volume, "name");
    if (state == "in-sync" && unrepaired_bytes(verify_of(volume)) != 0) {
        return fmt::format(
            "find out which node's disk is bad; if it is that of the standby: mirrorctl verify {} "
            "--repair. If it is that of the active node, switch first",
            name);
    }
    if (state == "broken") {
        return step_when_broken(volume, name);
    }
    if (state == "resyncing") {
        return fmt::format("nothing; to wait for the end: mirrorctl wait {} --for in-sync", name);
    }
    if (state == "diverged") {
        return fmt::format(
            "choose which node's data to keep; nothing is overwritten until then. What would be "
            "lost: mirrorctl resolve {} --keep NODE --dry-run",
            name);
    }
    if (state == "peer-unknown") {
        return fmt::format(
            "check whether {} is up (mirrorctl check). If it is down for good, this shows what a "
            "takeover would lose: mirrorctl promote {} --force --dry-run",
            peer_name(volume), name);
    }
    if (state == "failed") {
        return step_when_failed(volume, name);
    }
    if (state == "new") {
        return fmt::format(
            "mirrorctl create {0} if that has not been done, then mirrorctl promote {0}", name);
    }
    return {};
}

}  // namespace mirror::tools
