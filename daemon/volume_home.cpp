// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/volume_home.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <set>
#include <sys/file.h>

#include "core/base/put_file.hpp"
#include "core/base/trusted_file.hpp"
#include "core/config/engine_settings.hpp"
#include "core/config/own_names.hpp"
#include "daemon/engine_process.hpp"

namespace mirror::daemon {
namespace {

/// What an engine was given, if that is still there and speaks of this node.
std::optional<Config> given_to_engine(const std::string& path, const std::string& volume,
                                      const std::string& node) {
    const auto text = read_own_file(path, longest_config_file);
    if (!text) {
        return std::nullopt;  // none, or not from our hand
    }
    auto config = parse_config(*text, path);
    if (!config) {
        return std::nullopt;
    }
    const auto found = config->volumes.find(volume);
    const bool fits = found != config->volumes.end() && found->second.backing.contains(node) &&
                      config->nodes.contains(node);
    return fits ? std::optional(std::move(*config)) : std::nullopt;
}

/// Another mirrord looks after what is there.
bool is_kept_by_another(const std::string& run_dir) {
    const auto lock =
        open_own_file(fmt::format("{}/{}", run_dir, own_names::daemon_lock), O_RDONLY);
    return lock && ::flock(lock->get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

/// Whether this engine serves our replica: in our RUN_DIR, or in the one that was ours.
bool serves_us(const RunningEngine& engine, const NodeConfig& node, const VolumeConfig* volume) {
    if (engine.node != node.name) {
        return false;
    }
    if (engine.run_dir() == node.run_dir) {
        return true;
    }
    if (!engine.was_given_its_settings() || is_kept_by_another(engine.run_dir())) {
        return false;
    }
    const auto given = given_to_engine(engine.config, engine.volume, node.name);
    if (!given) {
        return false;
    }
    const std::string& backing = given->volumes.at(engine.volume).backing.at(node.name);
    return given->nodes.at(node.name).state_dir == node.state_dir ||
           (volume != nullptr && volume->backing.at(node.name) == backing);
}

/// What stays as it was while the volume is in use.
void stay_in(VolumeHome& home, const NodeConfig& node, const VolumeConfig& volume) {
    const std::string& own = home.node.name;
    home.node.run_dir = node.run_dir;
    home.node.state_dir = node.state_dir;
    home.volume.backing[own] = volume.backing.at(own);
    home.volume.device = volume.device;
    home.volume.mount = volume.mount;
    home.volume.mount_options = volume.mount_options;
}

void move_in(VolumeHome& home, const Config& given) {
    stay_in(home, given.nodes.at(home.node.name), given.volumes.at(home.volume.name));
}

NodeConfig peer_in(const Config& config, const VolumeConfig& volume, const std::string& node) {
    const auto found = config.nodes.find(volume.peer_of(node));
    return found == config.nodes.end() ? NodeConfig{} : found->second;
}

VolumeHome home_of(const Config& config, const VolumeConfig& volume, const NodeConfig& node,
                   const std::vector<RunningEngine>& engines) {
    VolumeHome home{node, volume, peer_in(config, volume, node.name)};
    const EnginePaths paths = EnginePaths::of(node, volume.name);
    const auto engine = std::find_if(engines.begin(), engines.end(), [&](const auto& each) {
        return each.volume == volume.name && serves_us(each, node, &volume);
    });
    const bool runs = engine != engines.end();
    if (!runs && ::access(paths.marker.c_str(), F_OK) != 0) {
        return home;  // not in use
    }
    if (runs && !engine->was_given_its_settings()) {
        return home;
    }
    if (const auto given =
            given_to_engine(runs ? engine->config : paths.settings, volume.name, node.name)) {
        move_in(home, *given);
    }
    return home;
}

/// What a volume in use keeps is not another one's, even where the configuration has it there.
void yield_to(const VolumeHome& keeping, VolumeHome& other) {
    const std::string& own = other.node.name;
    if (!other.volume.device.empty() && other.volume.device == keeping.volume.device) {
        other.volume.device.clear();
        other.volume.mount.clear();
        other.volume.mount_options.clear();
    }
    if (other.volume.backing.at(own) == keeping.volume.backing.at(own)) {
        other.conflict = fmt::format("{} is the backing of {} until that is demoted on {}",
                                     other.volume.backing.at(own), keeping.volume.name, own);
    }
}

bool is_ours(const Config& config, const std::string& volume, const NodeConfig& node) {
    const auto found = config.volumes.find(volume);
    return found != config.volumes.end() && found->second.backing.contains(node.name);
}

}  // namespace

std::string VolumeHome::engine_config(const TlsConfig& tls) const {
    Config config{.path = {}, .tls = tls};
    config.nodes[node.name] = node;
    config.nodes[peer.name] = peer;
    return mirror::engine_config(config, volume);
}

Homes find_homes(const Config& config, const NodeConfig& node,
                 const std::vector<RunningEngine>& engines, const Homes& in_use) {
    Homes homes;
    for (const auto& [name, volume] : config.volumes) {
        if (volume.backing.contains(node.name)) {
            homes.emplace(name, home_of(config, volume, node, engines));
        }
    }
    for (const RunningEngine& engine : engines) {
        if (is_ours(config, engine.volume, node) || !engine.was_given_its_settings() ||
            !serves_us(engine, node, nullptr)) {
            continue;
        }
        const auto given = given_to_engine(engine.config, engine.volume, node.name);
        if (!given) {
            continue;
        }
        const VolumeConfig& volume = given->volumes.at(engine.volume);
        VolumeHome home{node, volume, peer_in(*given, volume, node.name), false};
        move_in(home, *given);
        homes.emplace(engine.volume, std::move(home));
    }
    for (const auto& [name, before] : in_use) {
        if (is_ours(config, name, node)) {
            stay_in(homes.at(name), before.node, before.volume);
        } else {
            homes.insert_or_assign(name, before).first->second.is_configured = false;
        }
    }
    std::set<std::string> keeping;
    for (const auto& [name, home] : homes) {
        if (!home.is_configured || !kept_settings(home, config).empty()) {
            keeping.insert(name);
        }
    }
    for (const std::string& name : keeping) {
        for (auto& [other, home] : homes) {
            if (!keeping.contains(other)) {
                yield_to(homes.at(name), home);
            }
        }
    }
    return homes;
}

Config in_force(const Config& config, const Homes& homes) {
    Config result = config;
    for (const auto& [name, home] : homes) {
        result.volumes[name] = home.volume;
    }
    return result;
}

std::map<std::string, std::pair<std::string, std::string>> kept_settings(const VolumeHome& home,
                                                                         const Config& config) {
    std::map<std::string, std::pair<std::string, std::string>> kept;
    const auto volume = config.volumes.find(home.volume.name);
    const auto node = config.nodes.find(home.node.name);
    if (!home.is_configured || volume == config.volumes.end() || node == config.nodes.end()) {
        return kept;
    }
    const auto compare = [&](const std::string& setting, const std::string& used,
                             const std::string& wanted) {
        if (used != wanted) {
            kept[setting] = {used, wanted};
        }
    };
    const std::string& own = home.node.name;
    compare("run_dir", home.node.run_dir, node->second.run_dir);
    compare("state_dir", home.node.state_dir, node->second.state_dir);
    compare("backing." + own, home.volume.backing.at(own), volume->second.backing.at(own));
    compare("device", home.volume.device, volume->second.device);
    compare("mount", home.volume.mount, volume->second.mount);
    compare("mount_options", home.volume.mount_options, volume->second.mount_options);
    return kept;
}

Result<void> write_engine_config(const std::string& path, const std::string& text) {
    return put_file(path, text, 0600);
}

}  // namespace mirror::daemon
