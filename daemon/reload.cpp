// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/reload.hpp"

#include <algorithm>
#include <set>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/config/engine_settings.hpp"
#include "core/config/mistakes.hpp"
#include "daemon/boot.hpp"
#include "daemon/pending_settings.hpp"

namespace mirror::daemon {
namespace {

/// An engine serves it, or will when it is started again.
bool is_in_use(const VolumeKeeper& keeper) {
    return keeper.place() == Place::active || keeper.waits_for_peer();
}

/// All that a keeper takes from the configuration.
std::string volume_text(const Config& config, const std::string& name, const std::string& node) {
    const auto volume = config.volumes.find(name);
    if (volume == config.volumes.end() || !volume->second.backing.contains(node)) {
        return {};
    }
    std::string text = engine_config(config, volume->second);
    for (const auto& [setting, value] : all_settings(config, volume->second, node)) {
        text += fmt::format("{}={}\n", setting, value);
    }
    return text;
}

bool lives_in_one_place(const VolumeHome& one, const VolumeHome& other) {
    const std::string& own = one.node.name;
    return one.node.run_dir == other.node.run_dir && one.node.state_dir == other.node.state_dir &&
           one.volume.backing.at(own) == other.volume.backing.at(own) &&
           one.volume.peer_of(own) == other.volume.peer_of(own) && one.conflict == other.conflict;
}

Failure refused(const std::string& path, const std::string& why, std::string remedy) {
    return Failure(Error{ErrorKind::refused,
                         fmt::format("{}: {}; the current configuration stays in force", path, why),
                         std::move(remedy)});
}

}  // namespace

void Reload::open() {
    MutexLock lock(mutex_);
    is_open_ = true;
}

void Reload::stop() {
    MutexLock lock(mutex_);
    stopping_ = true;
}

Result<Json> Reload::run(bool dry_run) {
    MutexLock lock(mutex_);
    if (stopping_) {
        return fail(ErrorKind::refused, "mirrord on {} is stopping", parts_.context.node.name);
    }
    if (!is_open_) {
        return Failure(Error{ErrorKind::busy,
                             fmt::format("mirrord on {} is starting", parts_.context.node.name),
                             "try again when it has started"});
    }
    auto done = change(dry_run);
    if (!done && !dry_run) {
        parts_.context.events.record(
            {"reload-refused", Severity::warning, "",
             fmt::format("the configuration of {} was not read again", parts_.context.node.name),
             done.error().message,
             done.error().remedy.empty() ? "mirrorctl check" : done.error().remedy});
    }
    return done;
}

Result<Config> Reload::read_wanted() {
    const std::string& path = parts_.context.as_read().path;
    const std::string& node = parts_.context.node.name;
    auto wanted = read_config_file(path);
    if (!wanted) {
        for (const Mistake& mistake : wanted.error()) {
            log(LogLevel::error, "{}", mistake.error.text());
        }
        const Error first = as_one_error(wanted.error());
        return Failure(Error{ErrorKind::refused,
                             first.message + "; the current configuration stays in force",
                             first.remedy});
    }
    if (!wanted->nodes.contains(node)) {
        return refused(path, fmt::format("it has no [node.{}], which this mirrord is", node),
                       "put it back; or, after another name: systemctl restart mirrord");
    }
    return std::move(*wanted);
}

bool Reload::is_concerned(const VolumeKeeper& keeper, const Config& next) const {
    const std::string& node = parts_.context.node.name;
    return volume_text(parts_.context.as_read(), keeper.name(), node) !=
               volume_text(next, keeper.name(), node) ||
           !kept_settings(keeper.lives(), next).empty() || !keeper.is_configured() ||
           !keeper.lives().conflict.empty();
}

Result<Reload::Operations> Reload::hold(const Config& next) const {
    Operations held;
    for (const auto& [name, keeper] : parts_.keepers) {
        if (!is_concerned(*keeper, next)) {
            continue;
        }
        auto operation = keeper->begin("reload of the configuration");
        if (!operation) {
            return Failure(operation.error());
        }
        held.emplace(name, std::move(*operation));
    }
    return held;
}

/// A volume whose engine is just being started again is in use all the same: it stays where it is,
/// and is looked after until it is demoted.
Homes Reload::find_new_homes(const Config& next, const Operations& held) const {
    Homes in_use;
    for (const auto& [name, operation] : held) {
        if (const VolumeKeeper& keeper = *parts_.keepers.at(name); is_in_use(keeper)) {
            in_use.emplace(name, keeper.lives());
        }
    }
    Homes homes = find_homes(next, next.nodes.at(parts_.context.node.name), find_engines(), in_use);
    for (const auto& [name, keeper] : parts_.keepers) {
        if (!held.contains(name)) {
            homes.insert_or_assign(name, keeper->lives());
        }
    }
    return homes;
}

/// With what an earlier reload had to leave.
std::vector<ConfigChange> Reload::changes_of_volumes(const Config& next,
                                                     const Operations& held) const {
    const Config& running = parts_.context.as_read();
    const std::string& node = parts_.context.node.name;
    auto changes = volume_changes(running, next, node, [&](const std::string& volume) {
        const auto keeper = parts_.keepers.find(volume);
        return keeper != parts_.keepers.end() && is_in_use(*keeper->second);
    });
    for (const auto& [name, operation] : held) {
        const VolumeKeeper& keeper = *parts_.keepers.at(name);
        for (ConfigChange& kept : kept_changes(keeper.lives(), next, is_in_use(keeper))) {
            const auto is_told = [&](const ConfigChange& change) {
                return change.volume == kept.volume && change.setting == kept.setting;
            };
            if (std::none_of(changes.begin(), changes.end(), is_told)) {
                changes.push_back(std::move(kept));
            }
        }
    }
    return changes;
}

Result<Json> Reload::change(bool dry_run) {
    const Context& context = parts_.context;
    const std::string& node = context.node.name;
    const auto wanted = read_wanted();
    if (!wanted) {
        return Failure(wanted.error());
    }
    Config next = without_node_settings(context.as_read(), *wanted, node);
    std::vector<ConfigChange> changes = node_changes(context.as_read(), *wanted, node);
    for (ConfigChange& change :
         hold_back_new_peers(context.config, context.as_read(), next, node)) {
        changes.push_back(std::move(change));
    }
    auto held = hold(next);
    if (!held) {
        return Failure(held.error());
    }
    // Under the operations: nobody changes a role of these now.
    for (ConfigChange& change : changes_of_volumes(next, *held)) {
        changes.push_back(std::move(change));
    }
    std::vector<std::string> failed;
    // A version that says the same would cost its memory for nothing.
    if (!dry_run && (!held->empty() || !say_the_same(context.as_read(), next))) {
        apply(std::move(next), std::move(*held), failed);
    }
    if (!dry_run) {
        tell(changes, failed);
    }
    Json list = Json::array();
    for (const ConfigChange& change : changes) {
        list.push_back(encode(change));
    }
    return Json{{"text", changes.empty() ? fmt::format("{} has no changes", wanted->path)
                         : dry_run       ? fmt::format("{} would be read again", wanted->path)
                                         : fmt::format("{} was read again", wanted->path)},
                {"dry_run", dry_run},
                {"changes", std::move(list)},
                {"failed", failed}};
}

void Reload::apply(Config next, Operations held, std::vector<std::string>& failed) {
    const Homes homes = find_new_homes(next, held);
    Config used = in_force(next, homes);
    parts_.live.put({std::move(next), homes, std::move(used)});
    std::set<std::string> peers;
    for (auto& [name, operation] : held) {
        change_volume(name, std::move(operation), homes, failed);
    }
    held.clear();
    for (const auto& [name, home] : homes) {
        if (parts_.keepers.find(name) == parts_.keepers.end()) {
            add_volume(home, failed);
        }
        peers.insert(home.volume.peer_of(home.node.name));
    }
    for (const std::string& peer : peers) {
        if (auto watched = parts_.peers.add(peer); !watched) {
            failed.push_back(watched.error().text());
        }
    }
    parts_.on_volumes();
}

void Reload::change_volume(const std::string& name, VolumeKeeper::Operation operation,
                           const Homes& homes, std::vector<std::string>& failed) {
    VolumeKeeper& keeper = *parts_.keepers.at(name);
    const auto home = homes.find(name);
    if (home == homes.end()) {
        parts_.keepers.remove(name);
        keeper.retire(std::move(operation));
    } else if (is_in_use(keeper) || lives_in_one_place(keeper.lives(), home->second)) {
        keeper.take_home(operation, home->second);
    } else {
        // Until the next keeper is there, requests are told to try again.
        keeper.retire(std::move(operation));
        add_volume(home->second, failed);
    }
}

void Reload::add_volume(const VolumeHome& home, std::vector<std::string>& failed) {
    auto keeper =
        std::make_unique<VolumeKeeper>(parts_.context, home, parts_.peers, parts_.devices);
    // A change of the configuration is no boot.
    note_boot_decided(parts_.context.node, home.volume.name);
    if (auto started = keeper->start(); !started) {
        failed.push_back(fmt::format("{}: {}", home.volume.name, started.error().text()));
    }
    (void)parts_.keepers.put(std::move(keeper));
}

void Reload::tell(const std::vector<ConfigChange>& changes,
                  const std::vector<std::string>& failed) {
    std::string text;
    for (const ConfigChange& change : changes) {
        text += (text.empty() ? "" : "; ") + words_of(change);
        log(LogLevel::info, "reload: {}", words_of(change));
    }
    for (const std::string& each : failed) {
        log(LogLevel::error, "reload: {}", each);
    }
    if (changes.empty()) {
        log(LogLevel::info, "reload: the file has no changes");
        return;
    }
    parts_.context.events.record(
        {"config-reloaded", Severity::info, "",
         fmt::format("mirrord of {} read the configuration again", parts_.context.node.name),
         text});
}

}  // namespace mirror::daemon
