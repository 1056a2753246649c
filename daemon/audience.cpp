// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/audience.hpp"

#include <algorithm>
#include <array>
#include <unistd.h>

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
    Rule{"demote-all", of_node, verb, anywhere, nowhere},
    Rule{"create", of_volume, verb, unless_active, nowhere},
    Rule{"promote", of_volume, verb, with_replica, standby},  // the second half of a switch
    Rule{"demote", of_volume, verb, anywhere, active},        // and the first
    Rule{"switch", of_volume, verb, with_replica, nowhere},
    Rule{"connect", of_volume, verb, anywhere, active},
    Rule{"disconnect", of_volume, verb, anywhere, active},
    Rule{"resync", of_volume, verb, anywhere, active},
    Rule{"verify", of_volume, verb, anywhere, active},
    Rule{"resize", of_volume, verb, anywhere, active},
    Rule{"resolve", of_volume, verb, with_replica, with_replica},
    Rule{"attach", of_volume, verb, active, nowhere},
    Rule{"detach", of_volume, verb, anywhere, nowhere},
    Rule{"restart-engine", of_volume, verb, active, nowhere},
    Rule{"undo-drop", of_volume, verb, anywhere, nowhere},
    Rule{"peer-status", of_node, of_peers, anywhere, anywhere, "node"},
    Rule{"handshake", of_volume, of_peers, with_replica, with_replica},
    Rule{"session-begin", of_volume, of_peers, standby, standby, "source"},
    Rule{"session-synced", of_volume, of_peers, standby, standby},
    Rule{"session-step", of_volume, of_peers, standby, standby},
    Rule{"session-incomplete", of_volume, of_peers, standby, standby},
    Rule{"session-end", of_volume, of_peers, standby, standby},
    Rule{"generation", of_volume, of_peers, standby, standby},
    Rule{"verify-record", of_volume, of_peers, standby, standby},
    Rule{"agree", of_volume, of_peers, standby, standby, "node"},
    Rule{"create-replica", of_volume, of_peers, absent, absent, "source"},
    Rule{"resolve-agree", of_volume, of_peers, with_replica, with_replica, "node"},
    Rule{"differing-regions", of_volume, of_peers, with_replica, with_replica},
    Rule{"block-digests", of_volume, of_peers, with_replica, with_replica},
    Rule{"resize-replica", of_volume, of_peers, standby, standby, "source"},
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
    return refuse(Ground::who,
                  fmt::format("request {} is answered on mirrord's local socket only, and {} asks "
                              "over the network",
                              rule.request, describe(client)));
}

Failure refuse_node(const std::string& asker, const VolumeConfig& volume, const std::string& node) {
    return refuse(Ground::who,
                  fmt::format("{} is not the peer of {} for volume {}", asker, node, volume.name),
                  fmt::format("its peer is {}: have the same configuration on all nodes",
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
                            fmt::format("{}; a replica can be replaced on the standby only: "
                                        "mirrorctl switch {} --to {} before",
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
