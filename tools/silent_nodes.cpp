// SPDX-License-Identifier: BSD-3-Clause
#include "tools/silent_nodes.hpp"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "core/base/json.hpp"

namespace mirror::tools {
namespace {

/// Waits for that node, and for nothing that only the volume itself can tell.
bool waits_for(const Json& volume, const std::string& node) {
    const std::string state = text_field(volume, "state");
    const Json& peers = part_field(volume, "peers");
    return (state == "broken" || state == "peer-unknown") && peers.is_array() &&
           peers.size() == 1 && text_field(peers.front(), "node") == node &&
           text_field(peers.front(), "link") != "connected";
}

bool is_name_byte(char byte) {
    return std::isalnum(static_cast<unsigned char>(byte)) != 0 || byte == '.' || byte == '_' ||
           byte == '-';
}

/// The step with VOLUME in place of the name, where it is the object of a command.
std::string for_any_volume(std::string step, const std::string& name) {
    constexpr std::string_view command = "mirrorctl ";
    for (std::size_t at = step.find(command); at != std::string::npos;
         at = step.find(command, at + 1)) {
        const std::size_t verb = at + command.size();
        const std::size_t space = step.find(' ', verb);
        const std::size_t end = space == std::string::npos ? space : space + 1 + name.size();
        if (end != std::string::npos && step.compare(space + 1, name.size(), name) == 0 &&
            (end >= step.size() || !is_name_byte(step[end]))) {
            step.replace(space + 1, name.size(), "VOLUME");
        }
    }
    return step;
}

std::string names_of(const std::vector<const Json*>& volumes) {
    std::string names;
    for (const Json* volume : volumes) {
        names += (names.empty() ? "" : ", ") + text_field(*volume, "name");
    }
    return names;
}

using Step = std::pair<std::string, std::vector<const Json*>>;  ///< what to do, and for which

std::vector<Step> steps_of(const std::vector<const Json*>& volumes) {
    std::vector<Step> steps;
    for (const Json* volume : volumes) {
        const std::string step = for_any_volume(next_step(*volume), text_field(*volume, "name"));
        auto known = std::find_if(steps.begin(), steps.end(),
                                  [&](const Step& each) { return each.first == step; });
        if (known == steps.end()) {
            known = steps.insert(steps.end(), Step{step, {}});
        }
        known->second.push_back(volume);
    }
    return steps;
}

std::string step_line(const Step& step, bool is_only_one) {
    const auto& [text, volumes] = step;
    // A single one is named in the command itself.
    const std::string words = volumes.size() == 1 ? next_step(*volumes.front()) : text;
    if (words.empty()) {
        return {};
    }
    return is_only_one ? fmt::format("    next: {}\n", words)
                       : fmt::format("    next for {}: {}\n", names_of(volumes), words);
}

}  // namespace

SilentNodes::SilentNodes(const Json& status, const std::vector<const Json*>& unwell) {
    for (const Json& entry : part_field(status, "nodes")) {
        if (bool_field(entry, "reachable").value_or(true)) {
            continue;
        }
        Node node{&entry, {}};
        std::copy_if(
            unwell.begin(), unwell.end(), std::back_inserter(node.volumes),
            [&](const Json* volume) { return waits_for(*volume, text_field(entry, "node")); });
        // A single one says more about itself.
        if (node.volumes.size() > 1) {
            nodes_.push_back(std::move(node));
        }
    }
}

bool SilentNodes::speak_for(const Json& volume) const {
    return std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& node) {
        return std::find(node.volumes.begin(), node.volumes.end(), &volume) != node.volumes.end();
    });
}

std::string SilentNodes::lines(WallTime now) const {
    std::string text;
    for (const Node& node : nodes_) {
        const auto seen = time_field(*node.entry, "last_seen");
        text += fmt::format(
            "{} unreachable {}: {}\n", text_field(*node.entry, "node"),
            seen ? "since " + format_when(*seen, now) : "since mirrord was started here",
            names_of(node.volumes));
        if (const std::string why = text_field(*node.entry, "why"); !why.empty()) {
            text += fmt::format("    {}\n", why);
        }
        const std::vector<Step> steps = steps_of(node.volumes);
        for (const Step& step : steps) {
            text += step_line(step, steps.size() == 1);
        }
    }
    return text;
}

}  // namespace mirror::tools
