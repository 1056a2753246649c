// SPDX-License-Identifier: BSD-3-Clause
// Who may ask mirrord what, and where the volume must be for it: the table of
// mirrordisk-protocol(7), WHO MAY DO WHAT, in one place. Who somebody is was proven before (by the
// kernel on the Unix socket, by TLS on the network); nothing here believes what a request says of
// its sender, it only refuses what contradicts the proof. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "core/nbd/export.hpp"
#include "daemon/status.hpp"

namespace mirror::daemon {

enum class Who {
    root,           ///< on mirrord.sock: root, or whoever mirrord runs as
    control_group,  ///< on mirrord.sock: a member of `control_group`
    other_user,     ///< on mirrord.sock: anybody else
    peer,           ///< over the network: may be the other node of the volume
    other_node,     ///< over the network: its certificate is for another node
};

/// As far as the connection tells: over the network everybody is a peer, of some volume.
[[nodiscard]] Who who_is(const nbd::Client& client, std::optional<gid_t> control_group) noexcept;
/// The same for a volume whose other node is `peer`.
[[nodiscard]] Who who_is(const nbd::Client& client, std::optional<gid_t> control_group,
                         const std::string& peer) noexcept;
/// Whether it is one of those who use the Unix socket.
[[nodiscard]] bool is_local(Who who) noexcept;
/// For the log: "gamma at 10.0.0.3:4711".
[[nodiscard]] std::string describe(const nbd::Client& client);

/// Where a volume may be on this node. What is on its way from one place to another passes: whoever
/// carries the request out says what is in progress.
struct Places {
    bool active = false;
    bool standby = false;  ///< and failed: a replica that mirrord owns, or would
    bool absent = false;

    [[nodiscard]] bool any() const noexcept { return active || standby || absent; }
    [[nodiscard]] bool has(Place place) const noexcept;
};

/// What `remote_verbs` must be for it to be served over the network.
enum class Remote {
    never,
    switched,
    full,
    always,  ///< what two nodes need to replicate: no verb of anybody
};

/// The worst that it may do, to whomever it is served.
enum class Harm {
    none,
    clients,  ///< takes the volume from who uses it, when asked to
    data,     ///< loses data, when asked to
};

struct Rule {
    std::string_view request;
    bool has_volume = true;
    bool is_verb = true;  ///< of mirrorctl, so that the control group may ask for it
    Places local{};       ///< for root
    Places network{};     ///< for the peer
    Remote remote = Remote::never;
    Harm harm = Harm::none;
    /// The field in which the asking node names itself; may be empty.
    std::string_view claim{};
};

/// Who asks for a request about a volume, as far as carrying it out depends on that. What loses
/// data is never served over the network without an undo file or a proof that nothing is lost;
/// what cuts off clients only where `remote` is full.
struct Asking {
    bool is_local = true;
    RemoteVerbs remote = RemoteVerbs::switched;  ///< of the volume on this node
    bool is_proven = true;                       ///< that it is the node which it says that it is

    /// Cut off clients, and overwrite what holds data.
    [[nodiscard]] bool may_all() const noexcept { return is_local || remote == RemoteVerbs::full; }
};

/// Null for what is no request.
[[nodiscard]] const Rule* rule_of(std::string_view request) noexcept;
/// Where that one may ask for it; nowhere: never.
[[nodiscard]] Places places_for(const Rule& rule, Who who) noexcept;
/// Where that one may open the export `control`, and those of a replica.
[[nodiscard]] Places mailbox_places(Who who) noexcept;
[[nodiscard]] Places replica_places(Who who) noexcept;

/// As a column of the manual's table.
[[nodiscard]] std::string_view to_word(Remote remote) noexcept;
[[nodiscard]] std::string_view to_word(Harm harm) noexcept;

// The refusals, with their Ground.
[[nodiscard]] Failure refuse_user(const nbd::Client& client, const Config& config);
[[nodiscard]] Failure refuse_asker(const Rule& rule, Who who, const nbd::Client& client);
/// Whether the node takes that verb from the network for the volume.
[[nodiscard]] Result<void> require_remote(const Rule& rule, const Asking& asking,
                                          const VolumeConfig& volume, const std::string& node);
/// What is refused to the network although the verb as such is not. `command` does it on this node;
/// empty without that.
[[nodiscard]] Failure refuse_over_network(std::string what, const VolumeConfig& volume,
                                          const std::string& node, const std::string& command,
                                          bool would_full_do);
[[nodiscard]] Failure refuse_node(const std::string& asker, const VolumeConfig& volume,
                                  const std::string& node);
[[nodiscard]] Failure refuse_place(Places allowed, Place place, const VolumeConfig& volume,
                                   const std::string& node);

}  // namespace mirror::daemon
