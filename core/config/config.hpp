// SPDX-License-Identifier: BSD-3-Clause
// The TOML configuration, the same file on every node, checked as a whole: a mistake anywhere is
// an error that names file, line and key. Values; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.hpp"

namespace mirror {

struct Endpoint {
    std::string host;
    std::uint16_t port = 0;

    /// "host:port", "[v6]:port".
    [[nodiscard]] std::string text() const;
    /// Nothing that is sent there leaves the machine. A host name other than localhost may.
    [[nodiscard]] bool is_loopback() const;
    friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

/// Which verbs a node carries out that somebody asks for over the network.
enum class RemoteVerbs {
    none,      ///< none: its own users alone decide
    switched,  ///< what neither loses data nor cuts off clients, as a planned switch
    full,      ///< what cuts off clients, too
};

struct NodeConfig {
    std::string name;
    Endpoint address;
    std::string run_dir = "/run/mirrordisk";
    std::string state_dir = "/var/lib/mirrordisk";
    std::optional<RemoteVerbs> remote_verbs{};

    [[nodiscard]] std::string daemon_socket() const { return run_dir + "/mirrord.sock"; }
    [[nodiscard]] std::string volume_socket(const std::string& volume) const {
        return run_dir + "/" + volume + ".sock";
    }
    [[nodiscard]] std::string express_socket(const std::string& volume) const {
        return run_dir + "/" + volume + ".express.sock";
    }
};

enum class Mode { sync, async };
enum class OnPeerLoss { continue_alone, stop };

/// A TiB in four and a half hours, and a small part of what a disk can read.
inline constexpr std::uint64_t default_verify_rate = std::uint64_t{64} << 20;

struct VolumeConfig {
    std::string name;
    std::optional<std::uint64_t> size;  ///< bytes; needed where the backing file must be made
    Mode mode = Mode::sync;
    std::string device;          ///< empty: none
    std::string mount;           ///< where the device is mounted while active; empty: not by us
    std::string mount_options;   ///< as for mount(8); empty: none
    std::string io_group;        ///< whose members may open the volume's socket; empty: the owner
    std::string active_at_boot;  ///< the node that promotes it after a boot; empty: none
    std::chrono::milliseconds hook_timeout{60000};
    std::chrono::milliseconds peer_timeout{5000};
    OnPeerLoss on_peer_loss = OnPeerLoss::continue_alone;
    /// Bytes a second that a comparison may read of each replica; 0: no limit.
    std::uint64_t verify_rate = default_verify_rate;
    std::chrono::milliseconds disk_timeout{0};   ///< 0: a disk is waited for without end
    std::map<std::string, std::string> backing;  ///< node name → absolute path; two nodes
    std::map<std::string, Endpoint> address;     ///< the same nodes → where mirrord listens
    std::optional<RemoteVerbs> remote_verbs{};

    /// The other node of the pair; empty if `node` has no replica.
    [[nodiscard]] std::string peer_of(const std::string& node) const;
    /// Every setting that both nodes must share, as "key" → "value", with the defaults filled in
    /// and in one spelling ("5000ms"): compared in the handshake.
    [[nodiscard]] std::map<std::string, std::string> shared_settings() const;
};

/// For that volume on that node: where both say something the stricter counts, so that neither
/// lifts the other's veto.
[[nodiscard]] RemoteVerbs remote_verbs_of(const NodeConfig& node,
                                          const VolumeConfig& volume) noexcept;

/// What every connection over TCP is protected by.
enum class TlsMode { psk, x509, off };

struct TlsConfig {
    TlsMode mode = TlsMode::psk;
    std::string psk_file;  ///< the cluster's keys; default: cluster.psk beside the configuration
    std::string x509_dir;  ///< the CA's and the nodes' certificates; default: x509 beside it
    /// `i_know_this_network_is_private`: without it only loopback addresses may be unencrypted.
    bool private_network = false;
    /// With x509: nobody is let in without a list of revoked certificates that is in force.
    bool crl_required = false;
};

struct Config {
    std::string path;
    TlsConfig tls;
    /// Whose members may use mirrord's socket as root may; empty: nobody's.
    std::string control_group{};
    std::map<std::string, NodeConfig> nodes;
    std::map<std::string, VolumeConfig> volumes;

    [[nodiscard]] Result<const NodeConfig*> node(const std::string& name) const;
    [[nodiscard]] Result<const VolumeConfig*> volume(const std::string& name) const;
};

/// Thousands of volumes; what is longer is something else.
inline constexpr std::size_t longest_config_file = std::size_t{1} << 20;

[[nodiscard]] Result<Config> parse_config(const std::string& text, const std::string& path);
/// A file that others could change is refused: it says what root opens, mounts and runs.
[[nodiscard]] Result<Config> load_config(const std::string& path);

/// `given`, else $MIRRORDISK_CONFIG, else /etc/mirrordisk/mirrordisk.toml.
[[nodiscard]] std::string config_path(const std::string& given);

/// Names of volumes and nodes: 1 to 63 of a-z A-Z 0-9 . _ -, starting with a letter or digit.
[[nodiscard]] bool is_valid_name(const std::string& name) noexcept;

}  // namespace mirror
