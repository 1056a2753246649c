// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/paths.hpp"

#include <map>
#include <string>
#include <utility>

#include <toml++/toml.h>

#include "core/config/own_names.hpp"

namespace mirror {
namespace {

class PathRules {
  public:
    PathRules(const Config& config, const Item& volumes) : config_(config), volumes_(volumes) {
        for (const auto& [node, ignored] : config.nodes) {
            for (std::string& path : own_paths(config, node)) {
                users_.try_emplace({node, std::move(path)}, "mirrord's own");
            }
        }
    }

    [[nodiscard]] Result<void> check(const VolumeConfig& volume) {
        for (const auto& [node, path] : volume.backing) {
            auto free = claim(node, path, volume, "backing." + node);
            if (free && !volume.device.empty()) {
                free = claim(node, volume.device, volume, "device");
            }
            if (free && !volume.mount.empty()) {
                free = claim(node, volume.mount, volume, "mount").and_then([&, &at = node] {
                    return require_nothing_hidden(at, volume);
                });
            }
            if (!free) {
                return free;
            }
        }
        return {};
    }

  private:
    [[nodiscard]] Failure wrong(const VolumeConfig& volume, const std::string& reason,
                                std::string remedy) const {
        const auto entry = volumes_.value.as_table()->find(volume.name);
        return volumes_.child(entry->first, entry->second).wrong(reason, std::move(remedy));
    }

    [[nodiscard]] Result<void> claim(const std::string& node, const std::string& path,
                                     const VolumeConfig& volume, const std::string& key) {
        const auto [user, is_new] =
            users_.try_emplace({node, path}, fmt::format("volume.{}.{}", volume.name, key));
        if (!is_new) {
            return wrong(volume,
                         fmt::format("{} {} is also {} on node {}", key, path, user->second, node),
                         "give each volume a backing, a device and a mount of its own");
        }
        return {};
    }

    [[nodiscard]] Result<void> require_nothing_hidden(const std::string& node,
                                                      const VolumeConfig& volume) const {
        const auto hides = [&](const std::string& path) {
            return path == volume.mount || volume.mount == "/" ||
                   path.starts_with(volume.mount + "/");
        };
        const NodeConfig& places = config_.nodes.at(node);
        std::map<std::string, std::string> needed{
            {fmt::format("node.{}.run_dir", node), places.run_dir},
            {fmt::format("node.{}.state_dir", node), places.state_dir}};
        for (const auto& [name, other] : config_.volumes) {
            if (const auto backing = other.backing.find(node); backing != other.backing.end()) {
                needed.emplace(fmt::format("volume.{}.backing.{}", name, node), backing->second);
            }
        }
        for (const auto& [key, path] : needed) {
            if (hides(path)) {
                return wrong(volume,
                             fmt::format("mount {} would hide {} ({}), without which the volume "
                                         "can't be served",
                                         volume.mount, path, key),
                             "mount it where nothing of mirrordisk lies");
            }
        }
        return {};
    }

    const Config& config_;
    const Item& volumes_;
    std::map<std::pair<std::string, std::string>, std::string> users_;  ///< (node, path) → key
};

}  // namespace

Result<void> check_paths(const Config& config, const Item& volumes) {
    PathRules rules(config, volumes);
    for (const auto& [name, volume] : config.volumes) {
        if (auto fitting = rules.check(volume); !fitting) {
            return fitting;
        }
    }
    return {};
}

}  // namespace mirror
