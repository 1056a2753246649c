// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/pending_settings.hpp"

#include <algorithm>
#include <set>

#include "core/base/json.hpp"
#include "core/config/words.hpp"

namespace mirror::daemon {
namespace {

std::string value_words(const std::string& value) {
    return value.empty() ? "not set" : value;
}

bool has(const std::vector<PendingSetting>& pending, Reach reach) {
    return std::any_of(pending.begin(), pending.end(),
                       [&](const PendingSetting& each) { return each.reach == reach; });
}

std::string list_words(const std::vector<PendingSetting>& pending) {
    std::string text;
    for (const PendingSetting& each : pending) {
        text +=
            fmt::format("{}{} is {} there and {} in the configuration", text.empty() ? "" : "; ",
                        each.setting, value_words(each.used), value_words(each.wanted));
    }
    return text;
}

std::string value_in(const Settings& settings, const std::string& name) {
    const auto found = settings.find(name);
    return found == settings.end() ? std::string() : found->second;
}

void add_engines(const Settings& engine, const Settings& home, const Settings& wanted,
                 const std::string& node, std::vector<PendingSetting>& pending) {
    std::set<std::string> names;
    for (const Settings* settings : {&engine, &wanted}) {
        for (const auto& [name, value] : *settings) {
            names.insert(name);
        }
    }
    for (const std::string& name : names) {
        const Reach reach = reach_of(name, node);
        // What the home keeps is told already, also while no engine runs. An engine that mirrord
        // gave nothing (a person started it) may be elsewhere still.
        const Settings& expected = reach == Reach::next_role ? home : wanted;
        if (value_in(engine, name) != value_in(expected, name)) {
            pending.push_back({name, value_in(engine, name), value_in(wanted, name), reach});
        }
    }
}

/// What one volume would be worked with, told as differences.
void compare_volume(const Config& before, const Config& now, const std::string& name,
                    const std::string& node, std::string& text) {
    const auto add = [&](const std::string& words) { text += (text.empty() ? "" : "; ") + words; };
    const auto old_volume = before.volumes.find(name);
    const auto new_volume = now.volumes.find(name);
    if (old_volume == before.volumes.end() || new_volume == now.volumes.end()) {
        return add(fmt::format("volume {} is {} the file", name,
                               new_volume == now.volumes.end() ? "no longer in" : "new in"));
    }
    const Settings old_ones = all_settings(before, old_volume->second, node);
    const Settings new_ones = all_settings(now, new_volume->second, node);
    if (auto same = require_same_settings(name, "mirrord", old_ones, "file", new_ones); !same) {
        const std::string& message = same.error().message;
        add(fmt::format("volume {}: {}", name, message.substr(message.find(": ") + 2)));
    }
}

}  // namespace

Settings all_settings(const Config& config, const VolumeConfig& volume, const std::string& node) {
    Settings settings = engine_settings(config, volume, node);
    settings["size"] = volume.size ? fmt::format("{}", *volume.size) : "";
    settings["mount"] = volume.mount;
    settings["mount_options"] = volume.mount_options;
    settings["active_at_boot"] = volume.active_at_boot;
    settings["remote_verbs"] = to_word(remote_verbs_of(config.nodes.at(node), volume));
    settings["hook_timeout"] = fmt::format("{}ms", volume.hook_timeout.count());
    return settings;
}

std::vector<PendingSetting> pending_settings(const VolumeHome& home, const Config& config,
                                             const Json& engine) {
    std::vector<PendingSetting> pending;
    for (const auto& [setting, values] : kept_settings(home, config)) {
        pending.push_back({setting, values.first, values.second, Reach::next_role});
    }
    const auto volume = config.volumes.find(home.volume.name);
    if (volume == config.volumes.end() || !home.is_configured) {
        return pending;
    }
    if (const auto said = settings_from_json(engine)) {
        Config at_home;
        at_home.nodes[home.node.name] = home.node;
        add_engines(*said, engine_settings(at_home, home.volume, home.node.name),
                    engine_settings(config, volume->second, home.node.name), home.node.name,
                    pending);
    }
    return pending;
}

std::string pending_step(const VolumeHome& home, const std::vector<PendingSetting>& pending,
                         bool is_active) {
    const std::string& node = home.node.name;
    const std::string& volume = home.volume.name;
    if (!is_active) {
        return fmt::format("restart mirrord on {}", node);
    }
    if (has(pending, Reach::next_role)) {
        return fmt::format(
            "put the old value back on {0}; or make {1} standby there (mirrorctl switch {1}, or "
            "mirrorctl demote {1}), move the files concerned, and restart mirrord on {0}",
            node, volume);
    }
    return fmt::format("on {}: mirrorctl restart-engine {}", node, volume);
}

std::string pending_words(const VolumeHome& home, const std::vector<PendingSetting>& pending,
                          bool is_active) {
    const std::string& node = home.node.name;
    const std::string& volume = home.volume.name;
    if (!home.is_configured) {
        return fmt::format(
            "{0} is not in the configuration of {1}, where it {2}; mirrord still manages it with "
            "the settings of its promotion: put it back in the file and restart mirrord, or {3}",
            volume, node, is_active ? "is active" : "was active when mirrord started",
            is_active ? fmt::format("end it: mirrorctl demote {}", volume) : "restart mirrord");
    }
    if (pending.empty()) {
        return {};
    }
    return fmt::format(
        "{}: {}; {}",
        is_active
            ? fmt::format("the engine of {} on {} was started with other settings", volume, node)
            : fmt::format("{} was in use on {} with other settings", volume, node),
        list_words(pending), pending_step(home, pending, is_active));
}

Json encode_pending(const std::vector<PendingSetting>& pending) {
    Json list = Json::array();
    for (const PendingSetting& each : pending) {
        list.push_back({{"setting", each.setting},
                        {"engine", each.used.empty() ? Json() : Json(each.used)},
                        {"config", each.wanted.empty() ? Json() : Json(each.wanted)},
                        {"needs", each.reach == Reach::next_role ? "demote" : "restart-engine"}});
    }
    return list;
}

std::vector<std::string> config_drift(const Context& context) {
    const Config& read = context.as_read();
    const auto now = load_config(read.path);
    if (!now) {
        return {
            fmt::format("mirrord uses the configuration that it read last, and can't use the "
                        "current file: {}",
                        now.error().text())};
    }
    std::string changes;
    std::set<std::string> names;
    for (const Config* config : {&read, &*now}) {
        for (const auto& [name, volume] : config->volumes) {
            names.insert(name);
        }
    }
    for (const std::string& name : names) {
        compare_volume(read, *now, name, context.node.name, changes);
    }
    if (!now->nodes.contains(context.node.name)) {
        changes += fmt::format("{}node {} is no longer in the file", changes.empty() ? "" : "; ",
                               context.node.name);
    }
    if (changes.empty()) {
        return {};
    }
    return {fmt::format(
        "{} was changed since mirrord on {} read it: {}; mirrorctl reload, or restart mirrord",
        read.path, context.node.name, changes)};
}

}  // namespace mirror::daemon
