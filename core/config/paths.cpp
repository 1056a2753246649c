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
    PathRules(const Config& config, const Item& volumes, Mistakes& mistakes)
        : config_(config), volumes_(volumes), mistakes_(mistakes) {
        for (const auto& [node, ignored] : config.nodes) {
            for (std::string& path : own_paths(config, node)) {
                users_.try_emplace({node, std::move(path)}, "mirrord's own");
            }
        }
    }

    void check(const VolumeConfig& volume) {
        for (const auto& [node, path] : volume.backing) {
            claim(node, path, volume, "backing." + node);
            if (!volume.device.empty()) {
                claim(node, volume.device, volume, "device");
            }
            if (!volume.mount.empty() && claim(node, volume.mount, volume, "mount")) {
                require_nothing_hidden(node, volume);
            }
        }
    }

  private:
    void wrong(const VolumeConfig& volume, const std::string& reason, std::string remedy) {
        const auto entry = volumes_.value.as_table()->find(volume.name);
        const Item item = volumes_.child(entry->first, entry->second);
        note(mistakes_, item, item.wrong(reason, std::move(remedy)));
    }

    /// Whether it is this volume's alone.
    bool claim(const std::string& node, const std::string& path, const VolumeConfig& volume,
               const std::string& key) {
        const auto [user, is_new] =
            users_.try_emplace({node, path}, fmt::format("volume.{}.{}", volume.name, key));
        if (!is_new) {
            wrong(volume, fmt::format("{} {} is also {} on node {}", key, path, user->second, node),
                  "give each volume a backing, a device and a mount of its own");
        }
        return is_new;
    }

    void require_nothing_hidden(const std::string& node, const VolumeConfig& volume) {
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
    }

    const Config& config_;
    const Item& volumes_;
    Mistakes& mistakes_;
    std::map<std::pair<std::string, std::string>, std::string> users_;  ///< (node, path) → key
};

}  // namespace

void check_paths(const Config& config, const Item& volumes, Mistakes& mistakes) {
    PathRules rules(config, volumes, mistakes);
    for (const auto& [name, volume] : config.volumes) {
        rules.check(volume);
    }
}

}  // namespace mirror
