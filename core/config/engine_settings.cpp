// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/engine_settings.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <string_view>

#include <toml++/toml.h>

#include "core/config/words.hpp"

namespace mirror {
namespace {

std::string milliseconds_text(std::chrono::milliseconds time) {
    return fmt::format("{}ms", time.count());
}

void insert(toml::table& table, std::string_view key, const std::string& value) {
    if (!value.empty()) {
        table.insert(key, value);
    }
}

toml::table node_table(const NodeConfig& node) {
    return toml::table{
        {"address", node.address.text()}, {"run_dir", node.run_dir}, {"state_dir", node.state_dir}};
}

toml::table volume_table(const VolumeConfig& volume) {
    toml::table backing;
    for (const auto& [node, path] : volume.backing) {
        backing.insert(node, path);
    }
    toml::table table{{"mode", std::string(to_word(volume.mode))},
                      {"peer_timeout", milliseconds_text(volume.peer_timeout)},
                      {"hook_timeout", milliseconds_text(volume.hook_timeout)},
                      {"disk_timeout", milliseconds_text(volume.disk_timeout)},
                      {"on_peer_loss", std::string(to_word(volume.on_peer_loss))},
                      {"verify_rate", static_cast<std::int64_t>(volume.verify_rate)}};
    table.insert("backing", std::move(backing));
    if (volume.size) {
        table.insert("size", static_cast<std::int64_t>(*volume.size));
    }
    insert(table, "device", volume.device);
    insert(table, "mount", volume.mount);
    insert(table, "mount_options", volume.mount_options);
    insert(table, "io_group", volume.io_group);
    insert(table, "active_at_boot", volume.active_at_boot);
    return table;
}

/// The other node's name and address belong together: see take_at_once().
bool has_same_nodes(const VolumeConfig& one, const VolumeConfig& other) {
    return std::equal(
        one.backing.begin(), one.backing.end(), other.backing.begin(), other.backing.end(),
        [](const auto& left, const auto& right) { return left.first == right.first; });
}

}  // namespace

std::string engine_config(const Config& config, const VolumeConfig& volume) {
    toml::table nodes;
    for (const auto& [name, path] : volume.backing) {
        if (const auto found = config.nodes.find(name); found != config.nodes.end()) {
            nodes.insert(name, node_table(found->second));
        }
    }
    toml::table root{{"tls", std::string(to_word(config.tls.mode))},
                     {"i_know_this_network_is_private", config.tls.private_network},
                     {"crl_required", config.tls.crl_required}};
    insert(root, "psk_file", config.tls.psk_file);
    insert(root, "x509_dir", config.tls.x509_dir);
    root.insert("node", std::move(nodes));
    root.insert("volume", toml::table{{volume.name, volume_table(volume)}});
    std::ostringstream text;
    text << root << '\n';
    return text.str();
}

std::map<std::string, std::string> engine_settings(const Config& config, const VolumeConfig& volume,
                                                   const std::string& node) {
    std::map<std::string, std::string> settings = volume.shared_settings();
    settings.erase("size");  // the metadata have it
    settings["node"] = node;
    settings["disk_timeout"] = milliseconds_text(volume.disk_timeout);
    settings["verify_rate"] = fmt::format("{}", volume.verify_rate);
    settings["io_group"] = volume.io_group;
    settings["tls"] = to_word(config.tls.mode);
    if (config.tls.mode == TlsMode::psk) {
        settings["psk_file"] = config.tls.psk_file;
    } else if (config.tls.mode == TlsMode::x509) {
        settings["x509_dir"] = config.tls.x509_dir;
        settings["crl_required"] = config.tls.crl_required ? "true" : "false";
    }
    if (const auto found = config.nodes.find(node); found != config.nodes.end()) {
        settings["run_dir"] = found->second.run_dir;
        settings["state_dir"] = found->second.state_dir;
    }
    return settings;
}

Reach reach_of(const std::string& setting, const std::string& node) noexcept {
    constexpr std::array<std::string_view, 3> of_the_role{"node", "run_dir", "state_dir"};
    constexpr std::array<std::string_view, 2> of_the_process{"disk_timeout", "io_group"};
    const auto is_among = [&](const auto& list) {
        return std::find(list.begin(), list.end(), setting) != list.end();
    };
    constexpr std::string_view backing = "backing.";
    if (is_among(of_the_role) ||
        (setting.starts_with(backing) && setting.substr(backing.size()) == node)) {
        return Reach::next_role;
    }
    return is_among(of_the_process) ? Reach::next_engine : Reach::at_once;
}

Config take_at_once(const Config& running, const Config& wanted, const std::string& volume,
                    const std::string& node) {
    const VolumeConfig& now = running.volumes.at(volume);
    const VolumeConfig& then = wanted.volumes.at(volume);
    Config taken = running;
    if (!has_same_nodes(now, then)) {
        return taken;
    }
    taken.tls = wanted.tls;
    for (auto& [name, config] : taken.nodes) {
        if (const auto found = wanted.nodes.find(name); found != wanted.nodes.end()) {
            config.address = found->second.address;
        }
    }
    VolumeConfig& settings = taken.volumes.at(volume);
    settings = then;
    settings.backing[node] = now.backing.at(node);
    settings.size = now.size;
    settings.disk_timeout = now.disk_timeout;
    settings.io_group = now.io_group;
    return taken;
}

}  // namespace mirror
