// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/peer_answer.hpp"

#include "core/base/json.hpp"
#include "core/control/messages.hpp"
#include "core/tls/psk_file.hpp"

namespace mirror::daemon {
namespace {

Result<PeerVolume> parse_volume(const Json& value) {
    const auto summary_json = control::object_field(value, "summary");
    if (!summary_json) {
        return Failure(summary_json.error());
    }
    auto summary = control::decode_summary(**summary_json);
    if (!summary) {
        return Failure(summary.error());
    }
    const auto role = control::string_field(value, "role").and_then([](const std::string& word) {
        return parse_role(word);
    });
    auto state = control::string_field(value, "state");
    auto why = control::string_field(value, "why");
    const auto behind = control::optional_uint_field(value, "behind_bytes");
    const auto running = control::bool_field_or(value, "engine_running", false);
    if (!role || !state || !why || !behind || !running) {
        return fail(ErrorKind::invalid, "a field is missing or of the wrong type");
    }
    PeerVolume volume{
        std::move(*summary), *role, std::move(*state), std::move(*why), *behind, *running, {}, {}};
    if (const auto resync = control::object_field(value, "resync")) {
        volume.resync = **resync;
    }
    if (const auto last_write = control::time_field(value, "last_write_at")) {
        volume.last_write = *last_write;
    }
    if (const auto advice = control::optional_string_field(value, "advice")) {
        volume.advice = advice->value_or("");
    }
    if (const auto words = control::optional_string_field(value, "settings_words")) {
        volume.settings_words = words->value_or("");
    }
    return volume;
}

std::vector<std::string> parse_keys(const Json& answer) {
    std::vector<std::string> keys;
    const auto list = answer.find("keys");
    if (list != answer.end() && list->is_array()) {
        for (const Json& key : *list) {
            if (key.is_string() && keys.size() < tls::most_psk_lines) {
                keys.push_back(key.get<std::string>());
            }
        }
    }
    return keys;
}

/// Of a version that does not say them: none.
std::map<std::string, PeerAnswer::Unusable> parse_unusable(const Json& answer) {
    std::map<std::string, PeerAnswer::Unusable> found;
    const auto list = answer.find("unusable");
    if (list == answer.end() || !list->is_object()) {
        return found;
    }
    for (const auto& [name, value] : list->items()) {
        const auto is_made = control::bool_field_or(value, "made", false);
        const auto why = control::string_field(value, "why");
        if (is_made && why) {
            found[name] = {*is_made, *why};
        }
    }
    return found;
}

}  // namespace

bool was_reached(const Error& error) noexcept {
    return error.kind != ErrorKind::unreachable && error.kind != ErrorKind::timed_out;
}

std::string why_not_seen(const std::string& peer, const Error& error) {
    return was_reached(error)
               ? fmt::format("{} answers, but can't be used: {}", peer, error.message)
               : fmt::format("{} can't be reached: {}", peer, error.message);
}

NoReplica why_no_replica(const PeerAnswer& answer, const std::string& volume) {
    const std::string& peer = answer.node;
    if (!answer.settings.contains(volume)) {
        return {fmt::format("{} answers, but its config has no volume {}", peer, volume),
                "install the same config on both nodes and restart mirrord"};
    }
    const auto found = answer.unusable.find(volume);
    const bool is_made = found == answer.unusable.end() || found->second.is_made;
    const std::string why = found == answer.unusable.end() || found->second.why.empty()
                                ? std::string()
                                : ": " + found->second.why;
    return {fmt::format("{} answers, but has no usable replica of {}{}", peer, volume, why),
            fmt::format("on {}: mirrorctl {} {}", peer, is_made ? "status" : "create", volume)};
}

Result<PeerAnswer> parse_peer_answer(const Json& answer) {
    auto node = control::string_field(answer, "node");
    auto version = control::string_field(answer, "version");
    const auto protocol = control::uint_field(answer, "protocol");
    const auto time = control::time_field(answer, "time");
    const auto settings = control::object_field(answer, "settings");
    const auto volumes = control::object_field(answer, "volumes");
    if (!node || !version || !protocol || !time || !settings || !volumes) {
        return fail(ErrorKind::protocol, "its status lacks a field");
    }
    PeerAnswer result{std::move(*node), std::move(*version), *protocol, *time, {}, {}};
    for (const auto& [name, value] : (*settings)->items()) {
        auto parsed = settings_from_json(value);
        if (!parsed) {
            return Failure(parsed.error());
        }
        result.settings[name] = std::move(*parsed);
    }
    for (const auto& [name, value] : (*volumes)->items()) {
        auto parsed = parse_volume(value);
        if (!parsed) {
            return Failure(parsed.error().within("its status of volume " + name));
        }
        result.volumes[name] = std::move(*parsed);
    }
    result.unusable = parse_unusable(answer);
    result.keys = parse_keys(answer);
    return result;
}

const PeerVolume* PeerView::volume(const std::string& name) const {
    if (!reachable || !answer) {
        return nullptr;
    }
    const auto found = answer->volumes.find(name);
    return found == answer->volumes.end() ? nullptr : &found->second;
}

}  // namespace mirror::daemon
