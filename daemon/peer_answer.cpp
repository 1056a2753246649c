// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/peer_answer.hpp"

#include "core/control/messages.hpp"
#include "daemon/fields.hpp"

namespace mirror::daemon {
namespace {

Result<PeerVolume> parse_volume(const std::string& name, const Json& value) {
    const Fields fields(value, fmt::format("the peer's volume {}", name));
    const auto summary_json = fields.object("summary");
    if (!summary_json) {
        return Failure(summary_json.error());
    }
    auto summary = control::summary_from_json(*summary_json);
    const auto role_word = fields.text("role");
    const auto state = fields.text("state");
    const auto why = fields.text("why");
    const auto running = fields.flag("engine_running");
    if (!summary) {
        return Failure(summary.error());
    }
    for (const auto* field : {&role_word, &state, &why}) {
        if (!field->has_value()) {
            return Failure(field->error());
        }
    }
    const auto role = parse_role(*role_word);
    if (!role) {
        return Failure(role.error());
    }
    PeerVolume volume;
    volume.summary = std::move(*summary);
    volume.role = *role;
    volume.state = *state;
    volume.why = *why;
    volume.engine_running = running.value_or(false);
    if (const auto behind = fields.number("behind_bytes")) {
        volume.behind_bytes = *behind;
    }
    if (const auto resync = fields.object("resync")) {
        volume.resync = *resync;
    }
    return volume;
}

}  // namespace

Result<PeerAnswer> parse_peer_answer(const Json& answer) {
    const Fields fields(answer, "the peer's status");
    PeerAnswer result;
    const auto node = fields.text("node");
    const auto version = fields.text("version");
    const auto protocol = fields.number("protocol");
    const auto time_text = fields.text("time");
    const auto settings = fields.object("settings");
    const auto volumes = fields.object("volumes");
    if (!node || !version || !protocol || !time_text || !settings || !volumes) {
        return fail(ErrorKind::protocol, "the peer's status lacks a field");
    }
    const auto time = parse_rfc3339(*time_text);
    if (!time) {
        return Failure(time.error());
    }
    result.node = *node;
    result.version = *version;
    result.protocol = *protocol;
    result.time = *time;
    for (const auto& [name, value] : settings->items()) {
        auto parsed = settings_from_json(value);
        if (!parsed) {
            return Failure(parsed.error());
        }
        result.settings[name] = std::move(*parsed);
    }
    for (const auto& [name, value] : volumes->items()) {
        auto parsed = parse_volume(name, value);
        if (!parsed) {
            return Failure(parsed.error());
        }
        result.volumes[name] = std::move(*parsed);
    }
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
