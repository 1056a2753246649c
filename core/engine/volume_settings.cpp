// SPDX-License-Identifier: BSD-3-Clause
// mirrord was restarted with other settings while this engine serves: what moves neither the data
// nor the process is taken at once, all of it or nothing. The rest stays, and is told by status.
#include <algorithm>
#include <array>
#include <utility>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/config/engine_settings.hpp"
#include "core/control/messages.hpp"
#include "core/engine/volume.hpp"

namespace mirror {
namespace {

using control::Json;
using Settings = std::map<std::string, std::string>;

constexpr std::size_t longest_config = std::size_t{64} << 10;

Result<Config> parse_wanted(const Json& request, const std::string& volume,
                            const std::string& node) {
    const auto text = request.find("config");
    if (text == request.end() || !text->is_string() ||
        text->get_ref<const std::string&>().size() > longest_config) {
        return fail(ErrorKind::invalid, "config: must be a text of {} bytes at most",
                    longest_config);
    }
    auto config = parse_config(text->get_ref<const std::string&>(), "the new settings");
    if (!config) {
        return config;
    }
    const auto found = config->volumes.find(volume);
    if (found == config->volumes.end() || !found->second.backing.contains(node)) {
        return fail(ErrorKind::invalid, "the new settings have no volume {} on {}", volume, node);
    }
    return config;
}

/// Whether a session has to begin anew for it.
bool is_of_a_session(const std::string& setting, const std::string& peer) {
    constexpr std::array<std::string_view, 5> always{"peer_timeout", "tls", "psk_file", "x509_dir",
                                                     "crl_required"};
    return setting == "address." + peer ||
           std::find(always.begin(), always.end(), setting) != always.end();
}

/// What differs, and its two values.
using Changes = std::map<std::string, std::pair<std::string, std::string>>;

Changes changes(const Settings& before, const Settings& after) {
    Changes found;
    for (const auto& [setting, value] : before) {
        found[setting].first = value;
    }
    for (const auto& [setting, value] : after) {
        found[setting].second = value;
    }
    std::erase_if(found, [](const auto& each) { return each.second.first == each.second.second; });
    return found;
}

}  // namespace

Result<Json> Volume::take_settings(const Json& request) {
    const auto wanted = parse_wanted(request, name(), node_);
    if (!wanted) {
        return Failure(wanted.error());
    }
    // Held to the end: of two requests the later one counts in all parts.
    MutexLock lock(settings_mutex_);
    Config after = take_at_once(taken_, *wanted, name(), node_);
    const Changes changed = changes(engine_settings(taken_, taken_.volumes.at(name()), node_),
                                    engine_settings(after, after.volumes.at(name()), node_));
    give_to_parts(after, *wanted, changed);
    taken_ = std::move(after);
    Json told = Json::object();
    for (const auto& [setting, values] : changed) {
        log(LogLevel::info, "volume {}: {} is now {} (it was {})", name(), setting, values.second,
            values.first);
        told[setting] = {values.first, values.second};
    }
    return Json{{"changed", std::move(told)}};
}

void Volume::give_to_parts(
    const Config& after, const Config& wanted,
    const std::map<std::string, std::pair<std::string, std::string>>& changed) {
    const VolumeConfig& volume = after.volumes.at(name());
    const VolumeConfig& configured = wanted.volumes.at(name());
    const std::string peer = settings_.peer_of(node_);
    membership_.take(volume.on_peer_loss);
    verify_.take(volume.verify_rate, volume.peer_timeout);
    // The handshake compares what both nodes' configurations say: also what this engine can't take.
    peer_.take(peer_address(after, volume, node_),
               (configured.peer_of(node_) == peer ? configured : volume).shared_settings(),
               std::any_of(changed.begin(), changed.end(),
                           [&](const auto& each) { return is_of_a_session(each.first, peer); }));
}

Json Volume::settings_view() const {
    MutexLock lock(settings_mutex_);
    return engine_settings(taken_, taken_.volumes.at(name()), node_);
}

}  // namespace mirror
