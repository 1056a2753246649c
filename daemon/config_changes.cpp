// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/config_changes.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "core/base/json.hpp"
#include "core/config/engine_settings.hpp"
#include "core/config/words.hpp"
#include "daemon/pending_settings.hpp"

namespace mirror::daemon {
namespace {

using Needs = ConfigChange::Needs;

/// Where it is while it is active: see daemon/volume_home.hpp.
bool is_kept_while_active(const std::string& setting, const std::string& node) {
    constexpr auto kept = std::to_array<std::string_view>({"device", "mount", "mount_options"});
    return std::find(kept.begin(), kept.end(), setting) != kept.end() ||
           setting == "backing." + node;
}

/// What mirrord alone looks at, each time that it needs it.
bool is_mirrords(const std::string& setting) {
    constexpr auto own =
        std::to_array<std::string_view>({"size", "hook_timeout", "active_at_boot", "remote_verbs"});
    return std::find(own.begin(), own.end(), setting) != own.end();
}

Needs needs_of(const std::string& setting, const std::string& node, bool is_active,
               bool same_nodes) {
    if (!is_active || is_mirrords(setting)) {
        return Needs::nothing;
    }
    if (is_kept_while_active(setting, node)) {
        return Needs::standby;
    }
    return same_nodes && reach_of(setting, node) == Reach::at_once ? Needs::nothing
                                                                   : Needs::restart_engine;
}

bool has_replica(const Config& config, const std::string& volume, const std::string& node) {
    const auto found = config.volumes.find(volume);
    return found != config.volumes.end() && found->second.backing.contains(node);
}

bool have_same_nodes(const VolumeConfig& one, const VolumeConfig& other) {
    return std::equal(
        one.backing.begin(), one.backing.end(), other.backing.begin(), other.backing.end(),
        [](const auto& left, const auto& right) { return left.first == right.first; });
}

/// Each difference between two sets of settings.
void compare(
    const Settings& before, const Settings& after,
    const std::function<void(const std::string&, const std::string&, const std::string&)>& found) {
    std::set<std::string> names;
    for (const Settings* settings : {&before, &after}) {
        for (const auto& [name, value] : *settings) {
            names.insert(name);
        }
    }
    const auto value_in = [](const Settings& settings, const std::string& name) {
        const auto entry = settings.find(name);
        return entry == settings.end() ? std::string() : entry->second;
    };
    for (const std::string& name : names) {
        const std::string was = value_in(before, name);
        const std::string now = value_in(after, name);
        if (was != now) {
            found(name, was, now);
        }
    }
}

Settings node_settings(const Config& config, const std::string& node) {
    const NodeConfig& own = config.nodes.at(node);
    return {{"address", own.address.text()},
            {"run_dir", own.run_dir},
            {"state_dir", own.state_dir},
            {"remote_verbs", own.remote_verbs ? std::string(to_word(*own.remote_verbs)) : ""},
            {"control_group", config.control_group},
            {"tls", std::string(to_word(config.tls.mode))},
            {"psk_file", config.tls.psk_file},
            {"x509_dir", config.tls.x509_dir},
            {"crl_required", config.tls.crl_required ? "true" : "false"},
            {"i_know_this_network_is_private", config.tls.private_network ? "true" : "false"}};
}

std::string or_unset(const std::string& value) {
    return value.empty() ? "not set" : value;
}

std::string_view word_of(Needs needs) {
    constexpr auto words =
        std::to_array<std::string_view>({"nothing", "restart-engine", "demote", "restart-mirrord"});
    return words.at(static_cast<std::size_t>(needs));
}

}  // namespace

Config without_node_settings(const Config& running, Config wanted, const std::string& node) {
    const NodeConfig& own = running.nodes.at(node);
    wanted.tls = running.tls;
    wanted.control_group = running.control_group;
    wanted.nodes.at(node) = own;
    for (auto& [name, volume] : wanted.volumes) {
        if (const auto address = volume.address.find(node); address != volume.address.end()) {
            address->second = own.address;
        }
    }
    return wanted;
}

std::vector<ConfigChange> node_changes(const Config& running, const Config& wanted,
                                       const std::string& node) {
    std::vector<ConfigChange> changes;
    compare(node_settings(running, node), node_settings(wanted, node),
            [&](const std::string& name, const std::string& was, const std::string& now) {
                changes.push_back({"", name, was, now, Needs::restart_mirrord});
            });
    return changes;
}

std::vector<ConfigChange> hold_back_new_peers(const Config& started, const Config& running,
                                              Config& wanted, const std::string& node) {
    std::vector<ConfigChange> changes;
    for (auto volume = wanted.volumes.begin(); volume != wanted.volumes.end();) {
        const std::string peer = volume->second.peer_of(node);
        if (peer.empty() || started.nodes.contains(peer)) {
            ++volume;
            continue;
        }
        changes.push_back({volume->first, "backing." + peer, "", volume->second.backing.at(peer),
                           Needs::restart_mirrord});
        const auto before = running.volumes.find(volume->first);
        if (before == running.volumes.end()) {
            volume = wanted.volumes.erase(volume);
        } else {
            volume->second = before->second;
            ++volume;
        }
    }
    // Of a volume that stays as it was.
    for (const auto& [name, config] : running.nodes) {
        wanted.nodes.emplace(name, config);
    }
    return changes;
}

std::vector<ConfigChange> volume_changes(const Config& running, const Config& wanted,
                                         const std::string& node,
                                         const std::function<bool(const std::string&)>& is_active) {
    std::set<std::string> names;
    for (const Config* config : {&running, &wanted}) {
        for (const auto& [name, volume] : config->volumes) {
            names.insert(name);
        }
    }
    std::vector<ConfigChange> changes;
    for (const std::string& name : names) {
        const bool was_there = has_replica(running, name, node);
        const bool is_there = has_replica(wanted, name, node);
        if (was_there != is_there) {
            changes.push_back({name, "", was_there ? "configured" : "",
                               is_there ? "configured" : "",
                               was_there && is_active(name) ? Needs::standby : Needs::nothing});
        }
        if (!was_there || !is_there) {
            continue;
        }
        const VolumeConfig& before = running.volumes.at(name);
        const VolumeConfig& after = wanted.volumes.at(name);
        const bool same_nodes = have_same_nodes(before, after);
        compare(all_settings(running, before, node), all_settings(wanted, after, node),
                [&](const std::string& setting, const std::string& was, const std::string& now) {
                    changes.push_back({name, setting, was, now,
                                       needs_of(setting, node, is_active(name), same_nodes)});
                });
    }
    return changes;
}

std::vector<ConfigChange> kept_changes(const VolumeHome& home, const Config& wanted,
                                       bool is_in_use) {
    const std::string& name = home.volume.name;
    const Needs needs = is_in_use ? Needs::standby : Needs::nothing;
    if (!home.is_configured) {
        return has_replica(wanted, name, home.node.name)
                   ? std::vector<ConfigChange>()
                   : std::vector<ConfigChange>{{name, "", "configured", "", needs}};
    }
    std::vector<ConfigChange> changes;
    for (const auto& [setting, values] : kept_settings(home, wanted)) {
        changes.push_back({name, setting, values.first, values.second, needs});
    }
    return changes;
}

bool say_the_same(const Config& one, const Config& other) {
    const auto text_of = [](const Config& config) {
        std::string text;
        const auto add = [&](const Settings& settings) {
            for (const auto& [name, value] : settings) {
                text += fmt::format("{}={}\n", name, value);
            }
        };
        for (const auto& [name, node] : config.nodes) {
            text += fmt::format("[node {}]\n", name);
            add(node_settings(config, name));
        }
        for (const auto& [name, volume] : config.volumes) {
            text += fmt::format("[volume {}]\n", name);
            for (const auto& [node, path] : volume.backing) {
                add(all_settings(config, volume, node));
            }
        }
        return text;
    };
    return text_of(one) == text_of(other);
}

std::string step_of(const ConfigChange& change) {
    switch (change.needs) {
        case Needs::restart_engine:
            return fmt::format("mirrorctl restart-engine {}", change.volume);
        case Needs::standby:
            return change.setting.empty()
                       ? fmt::format("mirrorctl demote {}, then mirrorctl reload", change.volume)
                       : fmt::format(
                             "mirrorctl switch {0} (or mirrorctl demote {0}), then "
                             "mirrorctl reload",
                             change.volume);
        case Needs::restart_mirrord:
            return "systemctl restart mirrord";
        case Needs::nothing:
            break;
    }
    return {};
}

std::string words_of(const ConfigChange& change) {
    std::string text = change.volume.empty() ? std::string("this node") : change.volume;
    if (change.setting.empty()) {
        text += change.was.empty() ? ": added" : ": removed";
    } else {
        text += fmt::format(": {} {} -> {}", change.setting, or_unset(change.was),
                            or_unset(change.now));
    }
    const std::string step = step_of(change);
    return step.empty() ? text : fmt::format("{}; not in force yet: {}", text, step);
}

nlohmann::json encode(const ConfigChange& change) {
    const auto or_null = [](const std::string& value) {
        return value.empty() ? Json() : Json(value);
    };
    return {{"volume", or_null(change.volume)}, {"setting", or_null(change.setting)},
            {"was", or_null(change.was)},       {"now", or_null(change.now)},
            {"needs", word_of(change.needs)},   {"step", step_of(change)},
            {"text", words_of(change)}};
}

}  // namespace mirror::daemon
