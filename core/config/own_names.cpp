// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/own_names.hpp"

#include <algorithm>

#include "core/config/config.hpp"

namespace mirror {
namespace {

/// "events.jsonl", "events.jsonl.1", …
bool is_event_file(std::string_view name) {
    if (!name.starts_with(own_names::events)) {
        return false;
    }
    name.remove_prefix(own_names::events.size());
    return name.empty() || (name.starts_with('.') && name.size() > 1 &&
                            name.find_first_not_of("0123456789", 1) == std::string_view::npos);
}

/// "events.cursor", or "events.cursor.new" while it is written.
bool is_cursor_file(std::string_view name) {
    if (!name.starts_with(own_names::events_cursor)) {
        return false;
    }
    name.remove_prefix(own_names::events_cursor.size());
    return name.empty() || name == ".new";
}

/// NAME.express has the socket NAME.express.sock, and is itself no file.
constexpr std::string_view express_end = ".express";

}  // namespace

std::string lower_case(std::string_view name) {
    std::string lower(name);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
    });
    return lower;
}

std::string why_no_volume_name(std::string_view given) {
    const std::string name = lower_case(given);
    if (name == own_names::control_export) {
        return fmt::format("the export '{}' is used for control requests", name);
    }
    for (const std::string_view file : own_names::in_run_dir) {
        const bool is_met = std::any_of(
            own_names::of_a_volume.begin(), own_names::of_a_volume.end(),
            [&](std::string_view suffix) { return name + std::string(suffix) == file; });
        if (is_met || name == file) {
            return fmt::format("{} in RUN_DIR is mirrord's own", file);
        }
    }
    if (is_event_file(name)) {
        return fmt::format("{} in STATE_DIR is the event log", name);
    }
    if (is_cursor_file(name)) {
        return fmt::format("{} in STATE_DIR is mirrord's own", name);
    }
    if (name.ends_with(express_end)) {
        return fmt::format("a volume's name can't end in {}: NAME{} is the express socket of NAME",
                           express_end, own_names::express_socket);
    }
    for (const std::string_view suffix : own_names::of_a_volume) {
        if (name.ends_with(suffix)) {
            return fmt::format(
                "a volume's name can't end in {}: NAME{} in RUN_DIR is a file of the volume NAME",
                suffix, suffix);
        }
    }
    return {};
}

std::string why_no_node_name(std::string_view given) {
    return lower_case(given) == "ca" ? "ca-cert.pem in x509_dir is the certificate of the CA"
                                     : std::string();
}

std::vector<std::string> own_paths(const Config& config, const std::string& node) {
    const NodeConfig& places = config.nodes.at(node);
    std::vector<std::string> paths{config.path,
                                   config.tls.psk_file,
                                   fmt::format("{}/{}", places.state_dir, own_names::events),
                                   fmt::format("{}/{}", places.state_dir, own_names::events_cursor),
                                   places.run_dir,
                                   places.state_dir};
    for (const std::string_view file : own_names::in_run_dir) {
        paths.push_back(fmt::format("{}/{}", places.run_dir, file));
    }
    for (const auto& [name, volume] : config.volumes) {
        paths.push_back(fmt::format("{}/{}", places.state_dir, name));
        for (const char* file : {"meta", "verify.json", "rto.json"}) {
            paths.push_back(fmt::format("{}/{}/{}", places.state_dir, name, file));
        }
        for (const std::string_view suffix : own_names::of_a_volume) {
            paths.push_back(fmt::format("{}/{}{}", places.run_dir, name, suffix));
        }
    }
    return paths;
}

}  // namespace mirror
