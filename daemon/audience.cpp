// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/audience.hpp"

#include <algorithm>
#include <array>
#include <unistd.h>

#include "core/config/words.hpp"

namespace mirror::daemon {
namespace {

constexpr Places nowhere{};
constexpr Places anywhere{true, true, true};
constexpr Places active{true, false, false};
constexpr Places standby{false, true, false};
constexpr Places absent{false, false, true};
constexpr Places with_replica{true, true, false};
constexpr Places unless_active{false, true, true};

constexpr bool of_node = false;
constexpr bool of_volume = true;
constexpr bool verb = true;
constexpr bool of_peers = false;

// A verb is open to the network only where one node's mirrord passes it on to the other's.
constexpr std::array rules = {
    Rule{"version", of_node, verb, anywhere, nowhere},
    Rule{"status", of_node, verb, anywhere, nowhere},
    Rule{"check", of_node, verb, anywhere, nowhere},
    Rule{"test-event-hooks", of_node, verb, anywhere, nowhere},
    Rule{"reload", of_node, verb, anywhere, nowhere},
    Rule{"demote-all", of_node, verb, anywhere, nowhere, Remote::never, Harm::clients},
    Rule{"create", of_volume, verb, unless_active, nowhere, Remote::never, Harm::data},
    // The second half of a switch, and the first. A forced promotion loses data: never from there.
    Rule{"promote", of_volume, verb, with_replica, standby, Remote::switched, Harm::data, "node"},
    Rule{"demote", of_volume, verb, anywhere, active, Remote::switched, Harm::clients, "node"},
    Rule{"switch", of_volume, verb, with_replica, nowhere, Remote::never, Harm::clients},
    Rule{"connect", of_volume, verb, anywhere, active, Remote::switched, Harm::none, "node"},
    Rule{"disconnect", of_volume, verb, anywhere, active, Remote::switched, Harm::none, "node"},
    Rule{"resync", of_volume, verb, anywhere, active, Remote::switched, Harm::none, "node"},
    Rule{"verify", of_volume, verb, anywhere, active, Remote::switched, Harm::none, "node"},
    // No volume gets smaller again.
    Rule{"resize", of_volume, verb, anywhere, active, Remote::full, Harm::clients, "node"},
    // With an undo file, and for a split brain that both replicas show.
    Rule{"resolve", of_volume, verb, with_replica, with_replica, Remote::switched, Harm::data,
         "node"},
    Rule{"attach", of_volume, verb, active, nowhere},
    Rule{"detach", of_volume, verb, anywhere, nowhere},
    Rule{"restart-engine", of_volume, verb, active, nowhere, Remote::never, Harm::clients},
    Rule{"undo-drop", of_volume, verb, anywhere, nowhere, Remote::never, Harm::data},
    Rule{"peer-status", of_node, of_peers, anywhere, anywhere, Remote::always, Harm::none, "node"},
    Rule{"handshake", of_volume, of_peers, with_replica, with_replica, Remote::always},
    // From here on the replica is overwritten: by the node only that proves to be the active one.
    Rule{"session-begin", of_volume, of_peers, standby, standby, Remote::always, Harm::data,
         "source"},
    Rule{"session-proof", of_volume, of_peers, active, active, Remote::always, Harm::none, "node"},
    Rule{"session-synced", of_volume, of_peers, standby, standby, Remote::always},
    Rule{"session-step", of_volume, of_peers, standby, standby, Remote::always},
    Rule{"session-incomplete", of_volume, of_peers, standby, standby, Remote::always},
    Rule{"session-end", of_volume, of_peers, standby, standby, Remote::always},
    Rule{"generation", of_volume, of_peers, standby, standby, Remote::always},
    Rule{"verify-record", of_volume, of_peers, standby, standby, Remote::always},
    Rule{"agree", of_volume, of_peers, standby, standby, Remote::always, Harm::none, "node"},
    // Onto what holds data only where remote_verbs is full.
    Rule{"create-replica", of_volume, of_peers, absent, absent, Remote::always, Harm::data,
         "source"},
    Rule{"resolve-agree", of_volume, of_peers, with_replica, with_replica, Remote::always,
         Harm::none, "node"},
    Rule{"differing-regions", of_volume, of_peers, with_replica, with_replica, Remote::always},
    Rule{"block-digests", of_volume, of_peers, with_replica, with_replica, Remote::always},
    Rule{"resize-replica", of_volume, of_peers, standby, standby, Remote::always, Harm::none,
         "source"},
};

Failure refuse(Ground ground, std::string message, std::string remedy = {}) {
    return Failure(
        Error{ErrorKind::refused, std::move(message), std::move(remedy), /*os_error=*/0, ground});
}

}  // namespace

Who who_is(const nbd::Client& client, std::optional<gid_t> control_group) noexcept {
    if (!client.uid) {
        return client.address == "unix" ? Who::other_user : Who::peer;
    }
    if (*client.uid == 0 || *client.uid == ::geteuid()) {
        return Who::root;
    }
    const auto& groups = client.groups;
    return control_group && std::find(groups.begin(), groups.end(), *control_group) != groups.end()
               ? Who::control_group
               : Who::other_user;
}

Who who_is(const nbd::Client& client, std::optional<gid_t> control_group,
           const std::string& peer) noexcept {
    const Who who = who_is(client, control_group);
    return who == Who::peer && !client.node.empty() && client.node != peer ? Who::other_node : who;
}

bool is_local(Who who) noexcept {
    return who != Who::peer && who != Who::other_node;
}

std::string describe(const nbd::Client& client) {
    return client.node.empty() ? client.address
                               : fmt::format("{} at {}", client.node, client.address);
}

bool Places::has(Place place) const noexcept {
    switch (place) {
        case Place::active:
            return active;
        case Place::absent:
            return absent;
        case Place::changing:
            return any();
        default:
            return standby;
    }
}

const Rule* rule_of(std::string_view request) noexcept {
    const auto* found = std::find_if(rules.begin(), rules.end(),
                                     [&](const Rule& rule) { return rule.request == request; });
    return found == rules.end() ? nullptr : found;
}

Places places_for(const Rule& rule, Who who) noexcept {
    switch (who) {
        case Who::root:
            return rule.local;
        case Who::control_group:
            return rule.is_verb ? rule.local : nowhere;
        case Who::peer:
            return rule.network;
        case Who::other_node:
            return rule.has_volume ? nowhere : rule.network;
        default:
            return nowhere;
    }
}

Places mailbox_places(Who who) noexcept {
    return who == Who::other_user ? nowhere : anywhere;
}

Places replica_places(Who who) noexcept {
    // Not the control group: what is on the disk is another matter than who serves it.
    return who == Who::root || who == Who::peer ? standby : nowhere;
}

Failure refuse_user(const nbd::Client& client, const Config& config) {
    const std::string whom =
        config.control_group.empty()
            ? "root"
            : fmt::format("root and members of the group {}", config.control_group);
    return refuse(
        Ground::who,
        client.uid ? fmt::format("mirrord's socket is for {} (you are uid {})", whom, *client.uid)
                   : fmt::format("mirrord's socket is for {}", whom),
        config.control_group.empty()
            ? fmt::format("use sudo, or name a group with control_group in {}", config.path)
            : fmt::format("use sudo, or join the group {} and log in again", config.control_group));
}

Failure refuse_asker(const Rule& rule, Who who, const nbd::Client& client) {
    if (is_local(who)) {
        return refuse(Ground::who,
                      fmt::format("request {} is for the peer node: on mirrord's local socket only "
                                  "root may send it",
                                  rule.request));
    }
    return refuse(Ground::who, fmt::format("request {} is accepted on mirrord's local socket only, "
                                           "and {} sent it over the network",
                                           rule.request, describe(client)));
}

std::string_view to_word(Remote remote) noexcept {
    constexpr std::array<std::string_view, 4> words{"-", "switch", "full", "always"};
    return words.at(static_cast<std::size_t>(remote));
}

std::string_view to_word(Harm harm) noexcept {
    constexpr std::array<std::string_view, 3> words{"-", "clients", "data"};
    return words.at(static_cast<std::size_t>(harm));
}

Failure refuse_over_network(std::string what, const VolumeConfig& volume, const std::string& node,
                            const std::string& command, bool would_full_do) {
    std::string remedy =
        command.empty() ? std::string() : fmt::format("on {}: mirrorctl {}", node, command);
    if (would_full_do) {
        remedy += fmt::format("{}remote_verbs = \"full\" for {} on {} lets its peer do it",
                              remedy.empty() ? "" : "; or ", volume.name, node);
    }
    return refuse(Ground::who, std::move(what), std::move(remedy));
}

Result<void> require_remote(const Rule& rule, const Asking& asking, const VolumeConfig& volume,
                            const std::string& node) {
    const bool allowed = asking.is_local || rule.remote == Remote::always ||
                         (rule.remote == Remote::switched && asking.remote != RemoteVerbs::none) ||
                         (rule.remote == Remote::full && asking.remote == RemoteVerbs::full);
    if (allowed) {
        return {};
    }
    return refuse_over_network(
        fmt::format("{} does not accept {} for {} from the network (remote_verbs = \"{}\" there)",
                    node, rule.request, volume.name, mirror::to_word(asking.remote)),
        volume, node,
        fmt::format("{} {}{}", rule.request, volume.name,
                    rule.request == "resolve" ? " --keep NODE" : ""),
        rule.remote == Remote::full);
}

Failure refuse_node(const std::string& asker, const VolumeConfig& volume, const std::string& node) {
    return refuse(Ground::who,
                  fmt::format("{} is not the peer of {} for volume {}", asker, node, volume.name),
                  fmt::format("its peer is {}: use the same configuration on all nodes",
                              volume.peer_of(node)));
}

Failure refuse_place(Places allowed, Place place, const VolumeConfig& volume,
                     const std::string& node) {
    const std::string& name = volume.name;
    const std::string status = fmt::format("mirrorctl status {}", name);
    if (place == Place::absent) {
        return Failure(
            Error{ErrorKind::not_found, fmt::format("{} has no replica of {} yet", node, name),
                  fmt::format("mirrorctl create {}", name), /*os_error=*/0, Ground::state});
    }
    if (place == Place::active) {
        return allowed.absent
                   ? refuse(Ground::state,
                            fmt::format("volume {} exists on {} already, and is active there", name,
                                        node),
                            fmt::format("{}; a replica can be replaced on the standby only: first "
                                        "mirrorctl switch {} --to {}",
                                        status, name, volume.peer_of(node)))
                   : refuse(Ground::state, fmt::format("{} is active on {}", name, node), status);
    }
    return allowed.absent
               ? refuse(Ground::state, fmt::format("volume {} exists on {} already", name, node),
                        status)
               : refuse(Ground::state, fmt::format("{} is not active on {}", name, node),
                        fmt::format("mirrorctl promote {}", name));
}

}  // namespace mirror::daemon
