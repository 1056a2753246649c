// SPDX-License-Identifier: BSD-3-Clause
// From TOML to a Config. The readers take one table each and stop at its first mistake; the rules
// that span tables (addresses, paths in common) are checked when all of them are read.
#include <algorithm>
#include <exception>
#include <string_view>
#include <sys/un.h>
#include <utility>

#include <toml++/toml.h>

#include "core/config/config.hpp"
#include "core/config/item.hpp"
#include "core/config/network.hpp"
#include "core/config/own_names.hpp"
#include "core/config/paths.hpp"
#include "core/config/values.hpp"

namespace mirror {
namespace {

constexpr std::size_t longest_socket_path = sizeof(sockaddr_un::sun_path) - 1;
constexpr std::string_view name_rule =
    "a name is 1 to 63 of a-z A-Z 0-9 . _ -, starting with a letter or digit";

Result<void> read_node_key(NodeConfig& node, const Item& item, std::string_view key) {
    if (key == "address") {
        return store(address_of(item), node.address);
    }
    if (key == "run_dir") {
        return store(path_of(item, "/run/mirrordisk"), node.run_dir);
    }
    if (key == "state_dir") {
        return store(path_of(item, "/var/lib/mirrordisk"), node.state_dir);
    }
    if (key == "remote_verbs") {
        return store(choice_of(item, remote_verbs_words), node.remote_verbs);
    }
    return unknown_key(item, {"address", "run_dir", "state_dir", "remote_verbs"});
}

Result<void> read_node(Config& config, const Item& item, const std::string& name) {
    if (!is_valid_name(name)) {
        return item.wrong("not a valid name of a node", std::string(name_rule));
    }
    if (const std::string reason = why_no_node_name(name); !reason.empty()) {
        return item.wrong("the name is taken: " + reason, "give the node another name");
    }
    const Result<const toml::table*> table = table_of(item);
    if (!table) {
        return Failure(table.error());
    }
    NodeConfig node{.name = name};
    for (const auto& [key, value] : **table) {
        if (auto read = read_node_key(node, item.child(key, value), key.str()); !read) {
            return read;
        }
    }
    if (node.address.port == 0) {
        return item.wrong("address is missing", "add address = \"HOST:PORT\"");
    }
    for (const auto& [other_name, other] : config.nodes) {
        if (other.address == node.address) {
            return item.wrong(
                fmt::format("has the address {} of node.{}", node.address.text(), other_name),
                "give each node an address of its own");
        }
    }
    config.nodes.emplace(name, std::move(node));
    return {};
}

Result<void> read_backing(const Config& config, VolumeConfig& volume, const Item& item) {
    const toml::table* table = item.value.as_table();
    if (table == nullptr) {
        return item.wrong("must name its node", "write backing.NODE = \"/PATH\"");
    }
    for (const auto& [key, value] : *table) {
        const Item entry = item.child(key, value);
        const std::string node(key.str());
        const auto known = config.nodes.find(node);
        if (value.is_table()) {
            return unquoted_node(entry);
        }
        if (known == config.nodes.end()) {
            return entry.wrong(fmt::format("there is no [node.{}]", node),
                               "add it, or correct the name");
        }
        if (auto read = store(path_of(entry, "/srv/r0.img"), volume.backing[node]); !read) {
            return read;
        }
        volume.address[node] = known->second.address;
    }
    return {};
}

Result<void> read_volume_key(const Config& config, VolumeConfig& volume, const Item& item,
                             std::string_view key) {
    if (key == "size") {
        return store(size_of(item), volume.size);
    }
    if (key == "mode") {
        return store(mode_of(item), volume.mode);
    }
    if (key == "device") {
        return store(path_of(item, "/dev/nbd0"), volume.device);
    }
    if (key == "mount") {
        return store(mount_of(item), volume.mount);
    }
    if (key == "mount_options") {
        return store(mount_options_of(item), volume.mount_options);
    }
    if (key == "io_group") {
        return store(group_of(item), volume.io_group);
    }
    if (key == "active_at_boot") {
        return store(string_of(item, "alpha"), volume.active_at_boot);
    }
    if (key == "hook_timeout") {
        return store(timeout_of(item), volume.hook_timeout);
    }
    if (key == "peer_timeout") {
        return store(timeout_of(item), volume.peer_timeout);
    }
    if (key == "disk_timeout") {
        return store(disk_timeout_of(item), volume.disk_timeout);
    }
    if (key == "on_peer_loss") {
        return store(choice_of(item, on_peer_loss_words), volume.on_peer_loss);
    }
    if (key == "verify_rate") {
        return store(rate_of(item), volume.verify_rate);
    }
    if (key == "remote_verbs") {
        return store(choice_of(item, remote_verbs_words), volume.remote_verbs);
    }
    if (key == "backing") {
        return read_backing(config, volume, item);
    }
    return unknown_key(item, {"size", "mode", "device", "mount", "mount_options", "peer_timeout",
                              "disk_timeout", "hook_timeout", "on_peer_loss", "verify_rate",
                              "io_group", "active_at_boot", "remote_verbs", "backing.NODE"});
}

/// The keys that need each other, when all are read.
Result<void> check_companions(const VolumeConfig& volume, const Item& item) {
    const auto wrong = [&](const char* key, std::string_view reason, std::string remedy) {
        const auto entry = item.value.as_table()->find(key);
        return item.child(entry->first, entry->second).wrong(reason, std::move(remedy));
    };
    if (!volume.mount.empty() && volume.device.empty()) {
        return wrong("mount", "the volume has no device to mount", "add device = \"/dev/nbd0\"");
    }
    if (!volume.mount_options.empty() && volume.mount.empty()) {
        return wrong("mount_options", "the volume has no mount", "add mount = \"/srv/data\"");
    }
    if (!volume.active_at_boot.empty() && !volume.backing.contains(volume.active_at_boot)) {
        return wrong("active_at_boot",
                     fmt::format("'{}' is not a node of this volume", volume.active_at_boot),
                     fmt::format("use \"{}\" or \"{}\"", volume.backing.begin()->first,
                                 volume.backing.rbegin()->first));
    }
    return {};
}

Result<void> read_volume(Config& config, const Item& item, const std::string& name) {
    if (!is_valid_name(name)) {
        return item.wrong("not a valid name of a volume", std::string(name_rule));
    }
    if (const std::string reason = why_no_volume_name(name); !reason.empty()) {
        return item.wrong("the name is taken: " + reason, "give the volume another name");
    }
    const Result<const toml::table*> table = table_of(item);
    if (!table) {
        return Failure(table.error());
    }
    VolumeConfig volume{.name = name};
    for (const auto& [key, value] : **table) {
        if (auto read = read_volume_key(config, volume, item.child(key, value), key.str()); !read) {
            return read;
        }
    }
    if (volume.backing.size() != 2) {
        return item.wrong(
            fmt::format("needs exactly two backing.NODE entries, has {}", volume.backing.size()),
            "write backing.NODE = \"/PATH\" for exactly two nodes");
    }
    if (auto fitting = check_companions(volume, item); !fitting) {
        return fitting;
    }
    for (const auto& [node, path] : volume.backing) {
        const std::string socket = config.nodes.at(node).express_socket(name);
        if (socket.size() > longest_socket_path) {
            return item.wrong(
                fmt::format("its socket {} has a path of {} bytes", socket, socket.size()),
                fmt::format("the system allows {}: shorten the name or node.{}.run_dir",
                            longest_socket_path, node));
        }
    }
    config.volumes.emplace(name, std::move(volume));
    return {};
}

/// Calls `read(config, item, name)` for every entry of [SECTION.*].
template <typename Read>
Result<void> read_section(Config& config, const Item& section, Read read) {
    const Result<const toml::table*> table = table_of(section);
    if (!table) {
        return Failure(table.error());
    }
    for (const auto& [key, value] : **table) {
        if (auto done = read(config, section.child(key, value), std::string(key.str())); !done) {
            return done;
        }
    }
    return {};
}

/// The tables are read afterwards, in the order in which they need each other.
Result<void> read_top_key(Config& config, const Item& item, std::string_view key) {
    if (key == "node" || key == "volume") {
        return {};
    }
    if (std::find(network_keys.begin(), network_keys.end(), key) != network_keys.end()) {
        return read_network_key(config.tls, item, key);
    }
    if (key == "control_group") {
        return store(group_of(item), config.control_group);
    }
    return unknown_key(item, {"control_group", "node.NAME", "volume.NAME", "tls", "psk_file",
                              "x509_dir", "crl_required", "i_know_this_network_is_private"});
}

Result<Config> read_root(const toml::table& root, const std::string& path) {
    Config config{.path = path, .tls = default_tls(path)};
    const Item top{path, "", root, {}};
    for (const auto& [key, value] : root) {
        if (auto read = read_top_key(config, top.child(key, value), key.str()); !read) {
            return Failure(read.error());
        }
    }
    // Volumes name nodes, wherever in the file these are.
    if (const auto nodes = root.find("node"); nodes != root.end()) {
        if (auto read = read_section(config, top.child(nodes->first, nodes->second), read_node);
            !read) {
            return Failure(read.error());
        }
    }
    if (config.nodes.empty()) {
        return Failure(Error{ErrorKind::invalid, path + ": node: no node is configured",
                             "add [node.NAME] with address = \"HOST:PORT\" for both machines"});
    }
    if (const auto tls = root.find("tls"); tls != root.end()) {
        if (auto safe = check_network(config, top.child(tls->first, tls->second)); !safe) {
            return Failure(safe.error());
        }
    }
    if (const auto volumes = root.find("volume"); volumes != root.end()) {
        const Item section = top.child(volumes->first, volumes->second);
        auto read = read_section(config, section, read_volume);
        if (read) {
            read = check_paths(config, section);
        }
        if (!read) {
            return Failure(read.error());
        }
    }
    return config;
}

}  // namespace

Result<Config> parse_config(const std::string& text, const std::string& path) {
    try {
        return read_root(toml::parse(text, path), path);
    } catch (const toml::parse_error& error) {
        return fail(ErrorKind::invalid, "{}:{}: {}", path, error.source().begin.line,
                    error.description());
    } catch (const std::exception& error) {
        return fail(ErrorKind::internal, "{}: {}", path, error.what());
    }
}

}  // namespace mirror
