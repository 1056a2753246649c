// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/settings_diff.hpp"

#include <set>

#include "core/base/json.hpp"

namespace mirror::daemon {

Result<Settings> settings_from_json(const nlohmann::json& value) {
    if (!value.is_object()) {
        return fail(ErrorKind::invalid, "'settings' must be an object of strings");
    }
    Settings settings;
    for (const auto& [key, entry] : value.items()) {
        if (!entry.is_string()) {
            return fail(ErrorKind::invalid, "'settings' must be an object of strings");
        }
        settings[key] = entry.get<std::string>();
    }
    return settings;
}

Settings once_made(Settings settings) {
    settings.erase("size");
    return settings;
}

namespace {

/// "KEY is A on NODE and B on PEER; …"; empty: nothing differs.
std::string differences_between(const std::string& our_node, const Settings& ours,
                                const std::string& peer_node, const Settings& theirs) {
    std::set<std::string> keys;
    for (const auto& [key, value] : ours) {
        keys.insert(key);
    }
    for (const auto& [key, value] : theirs) {
        keys.insert(key);
    }
    const auto value_in = [](const Settings& settings, const std::string& key) {
        const auto found = settings.find(key);
        return found == settings.end() ? std::string("not set") : found->second;
    };
    std::string differences;
    for (const std::string& key : keys) {
        const std::string here = value_in(ours, key);
        const std::string there = value_in(theirs, key);
        if (here != there) {
            differences +=
                fmt::format("{}{} is {} on {} and {} on {}", differences.empty() ? "" : "; ", key,
                            here, our_node, there, peer_node);
        }
    }
    return differences;
}

}  // namespace

Result<void> require_same_settings(const std::string& volume, const std::string& our_node,
                                   const Settings& ours, const std::string& peer_node,
                                   const Settings& theirs) {
    const std::string differences = differences_between(our_node, ours, peer_node, theirs);
    if (differences.empty()) {
        return {};
    }
    return Failure(Error{ErrorKind::refused,
                         fmt::format("{} and {} have different configs for volume {}: {}", our_node,
                                     peer_node, volume, differences),
                         "install the same config on both nodes and restart mirrord"});
}

Result<void> require_current_engine(const std::string& volume, const std::string& our_node,
                                    const Settings& ours, const std::string& peer_node,
                                    const Settings& engines) {
    const std::string differences = differences_between(our_node, ours, "that engine", engines);
    if (differences.empty()) {
        return {};
    }
    return Failure(Error{
        ErrorKind::refused,
        fmt::format("the engine of {} on {} was started with other settings than both nodes have "
                    "now: {}",
                    volume, peer_node, differences),
        fmt::format("mirrord on {0} updates it; if it can't take them, on {0}: mirrorctl "
                    "restart-engine {1}",
                    peer_node, volume)});
}

}  // namespace mirror::daemon
