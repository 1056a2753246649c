// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/check.hpp"

#include <algorithm>
#include <cmath>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/json.hpp"
#include "core/base/socket_access.hpp"
#include "core/base/spawn.hpp"
#include "core/meta/meta_file.hpp"
#include "core/store/file_store.hpp"
#include "daemon/backing_access.hpp"
#include "daemon/check_addresses.hpp"
#include "daemon/engine_process.hpp"
#include "daemon/event_hooks.hpp"
#include "daemon/hooks.hpp"
#include "daemon/keepers.hpp"
#include "daemon/next_step.hpp"
#include "daemon/pending_settings.hpp"
#include "daemon/recognise_backing.hpp"
#include "daemon/resize_plan.hpp"
#include "daemon/settings_diff.hpp"
#include "daemon/state_space.hpp"
#include "daemon/unsupervised.hpp"

namespace mirror::daemon {
namespace {

/// Events of two nodes cannot be put in order beyond this.
constexpr std::chrono::seconds tolerable_skew{1};

void check_state_space(const Context& context, Json& problems) {
    const std::string warning =
        state_space_warning(context.node, state_space(context.node.state_dir));
    if (!warning.empty()) {
        problems.push_back(warning);
    }
}

void check_groups(const Context& context, Json& problems) {
    for (const auto& [name, volume] : context.used().volumes) {
        if (volume.io_group.empty() || !volume.backing.contains(context.node.name)) {
            continue;
        }
        if (const auto group = find_group(volume.io_group); !group) {
            problems.push_back(fmt::format("volume {}: io_group: {}", name, group.error().text()));
        }
    }
}

void check_programs(Json& problems) {
    if (find_program(nbdkit_program()).empty()) {
        problems.push_back(
            fmt::format("{} is not installed: no volume can be promoted here", nbdkit_program()));
    }
    if (::access(plugin_path().c_str(), R_OK) != 0) {
        problems.push_back(
            fmt::format("the plugin {} is missing: no volume can be promoted here", plugin_path()));
    }
}

/// Once a volume is made its metadata have its size, and a backing may be longer; a config that
/// wants more than there is was written by somebody who waits for it.
bool may_have(const VolumeKeeper& keeper, const BackingInfo& backing, std::uint64_t wanted) {
    const bool is_made = ::access(keeper.meta_file().c_str(), F_OK) == 0;
    return is_made ? backing.size >= wanted : backing.size == wanted;
}

/// While a replica is open its file may get another name, or none.
void check_open_backings(const Keepers& keepers, Json& problems) {
    for (const auto& [name, keeper] : keepers) {
        const auto block = read_superblock(keeper->meta_file());
        if (!block) {
            continue;
        }
        if (block->doubtful) {
            problems.push_back(fmt::format(
                "volume {}: {} is not as it was left: it is compared as a whole when {} is active "
                "on {}, and not promoted here without --force",
                name, keeper->backing_path(), name, keeper->peer()));
        }
        const bool open = keeper->place() == Place::standby || keeper->place() == Place::active;
        const std::string found = open ? look_for_backing(*keeper, *block) : std::string();
        if (!found.empty()) {
            problems.push_back(fmt::format("volume {}: {}", name, found));
        }
    }
}

void check_backings(const Keepers& keepers, Json& problems) {
    for (const auto& [name, keeper] : keepers) {
        const VolumeConfig& volume = keeper->config();
        const auto info = inspect_backing(keeper->backing_path());
        if (!info) {
            problems.push_back(fmt::format("volume {}: {}", name, info.error().message));
        } else if (!info->exists && !volume.size) {
            problems.push_back(fmt::format("volume {}: {} does not exist and no size is configured",
                                           name, keeper->backing_path()));
        } else if (const auto own = require_own_backing(keeper->backing_path()); !own) {
            problems.push_back(fmt::format("volume {}: {}", name, own.error().text()));
        } else if (info->exists && volume.size && !may_have(*keeper, *info, *volume.size)) {
            problems.push_back(fmt::format("volume {}: {} has {} bytes, the config says {}", name,
                                           keeper->backing_path(), info->size, *volume.size));
        }
    }
}

/// A service with a mount namespace of its own mounts where nobody else sees it.
bool sees_the_machines_mounts() {
    struct stat ours {};
    struct stat first {};
    return ::stat("/proc/self/ns/mnt", &ours) != 0 || ::stat("/proc/1/ns/mnt", &first) != 0 ||
           ours.st_ino == first.st_ino;
}

/// What hooks and mounts will need at the next change of a role.
void check_steps(const Context& context, Json& problems) {
    const HookFolder hooks = list_hooks(hook_folder(context.used().path));
    for (const std::string& problem : hooks.problems) {
        problems.push_back(problem);
    }
    for (const std::string& problem : list_hooks(event_hook_folder(context.used().path)).problems) {
        problems.push_back(problem);
    }
    bool mounts = false;
    for (const auto& [name, volume] : context.used().volumes) {
        if (volume.mount.empty() || !volume.backing.contains(context.node.name)) {
            continue;
        }
        mounts = true;
        struct stat found {};
        if (::stat(volume.mount.c_str(), &found) == 0 && !S_ISDIR(found.st_mode)) {
            problems.push_back(
                fmt::format("volume {}: mount {} is not a directory", name, volume.mount));
        }
    }
    for (const char* program : {"mount", "umount"}) {
        if (mounts && find_program(program).empty()) {
            problems.push_back(fmt::format("{} is not installed: nothing can be mounted", program));
        }
    }
    if ((mounts || !hooks.hooks.empty()) && !sees_the_machines_mounts()) {
        problems.push_back(
            "mirrord runs in a mount namespace of its own: mounts that it or a hook makes are not "
            "visible outside it; remove PrivateTmp=, ProtectSystem= and the like from its service");
    }
}

/// What engines, or mirrord itself, have not got of the configuration; false when there is any.
bool check_settings(const Context& context, const Keepers& keepers, Json& problems) {
    std::vector<std::string> found = config_drift(context);
    for (const auto& [name, keeper] : keepers) {
        if (std::string words = keeper->settings_words(); !words.empty()) {
            found.push_back(std::move(words));
        }
    }
    for (const Unsupervised& engine : unsupervised(context, keepers)) {
        found.push_back(fmt::format("{}; {}", engine.text, engine.remedy));
    }
    for (std::string& words : found) {
        problems.push_back(std::move(words));
    }
    return found.empty();
}

/// What that peer says of its own engines; false when there is any.
bool check_peers_settings(const Context& context, const PeerAnswer& answer, Json& problems) {
    bool settled = true;
    const auto& volumes = context.as_read().volumes;
    for (const auto& [name, theirs] : answer.volumes) {
        const auto volume = volumes.find(name);
        const bool is_shared =
            volume != volumes.end() && volume->second.peer_of(context.node.name) == answer.node;
        if (is_shared && !theirs.settings_words.empty()) {
            problems.push_back(theirs.settings_words);
            settled = false;
        }
    }
    return settled;
}

/// The settings of every volume that both nodes should have; false when one differs.
bool compare_settings(const Context& context, const PeerAnswer& answer, Json& problems) {
    bool same = true;
    for (const auto& [name, volume] : context.as_read().volumes) {
        if (volume.peer_of(context.node.name) != answer.node) {
            continue;
        }
        const auto theirs = answer.settings.find(name);
        if (theirs == answer.settings.end()) {
            problems.push_back(fmt::format("the config of {} has no volume {}", answer.node, name));
            same = false;
            continue;
        }
        const auto equal = require_same_settings(name, context.node.name, volume.shared_settings(),
                                                 answer.node, theirs->second);
        if (!equal) {
            problems.push_back(equal.error().text());
            same = false;
        }
    }
    return same;
}

Json own_entry(const Context& context, bool settled) {
    return {{"node", context.node.name},
            {"address", context.node.address.text()},
            {"reachable", true},
            {"version", MIRROR_VERSION},
            {"clock_skew_seconds", 0.0},
            {"clock_uncertainty_seconds", 0.0},
            {"same_config", settled},
            {"message", settled ? "this node" : "this node, where part of it is not in force yet"}};
}

/// `seen` is what is known of it now.
Json peer_entry(const Context& context, const PeerWatch& peers, const NodeConfig& node,
                PeerView& seen, Json& problems) {
    Json entry = {{"node", node.name},
                  {"address", node.address.text()},
                  {"reachable", false},
                  {"version", nullptr},
                  {"clock_skew_seconds", nullptr},
                  {"clock_uncertainty_seconds", nullptr},
                  {"same_config", nullptr},
                  {"message", ""}};
    const SteadyTime asked = context.clock.steady_now();
    const auto answer = peers.ask_status(node.name);
    const auto took = context.clock.steady_now() - asked;
    const WallTime answered = context.clock.wall_now();
    if (!answer) {
        seen.error = why_not_seen(node.name, answer.error());
        seen.remedy = was_reached(answer.error()) ? answer.error().remedy : std::string();
        entry["message"] = answer.error().message;
        problems.push_back(answer.error().text());
        return entry;
    }
    seen = {true, *answer, answered, {}, {}};
    const ClockOffset offset = clock_offset(answer->time, answered, took);
    if (offset.at_least() > tolerable_skew) {
        problems.push_back(fmt::format("the clocks of {} and {} are {:.1f} s apart",
                                       context.node.name, node.name,
                                       std::abs(rounded_seconds(offset.likely))));
    }
    compare_keys(context, *answer, problems);
    const bool equal = compare_settings(context, *answer, problems);
    const bool same = check_peers_settings(context, *answer, problems) && equal;
    entry["reachable"] = true;
    entry["version"] = answer->version;
    entry["clock_skew_seconds"] = rounded_seconds(offset.likely);
    entry["clock_uncertainty_seconds"] = rounded_seconds(offset.uncertainty);
    entry["same_config"] = same;
    entry["message"] = same ? "answers, same settings" : "answers, with other settings";
    return entry;
}

/// How the volumes are is what everything else is checked for.
void check_volumes(const Keepers& keepers, const std::map<std::string, PeerView>& peers,
                   Json& problems) {
    for (const auto& [name, keeper] : keepers) {
        const auto peer = peers.find(keeper->peer());
        const VolumeFacts seen = keeper->facts(peer == peers.end() ? PeerView{} : peer->second);
        const StateWord state = judge_state(seen);
        const bool is_problem = state.word == "broken" || state.word == "failed" ||
                                state.word == "diverged" || state.word == "peer-unknown";
        if (is_problem && seen.place != Place::changing) {
            const std::string step = next_step(seen, state);
            problems.push_back(fmt::format("volume {} is {}: {}{}{}", name, state.word, state.why,
                                           step.empty() ? "" : "; ", step));
        }
        if (const std::uint64_t bytes = unrepaired_bytes(seen); bytes != 0) {
            problems.push_back(
                fmt::format("volume {}: the last verify found {} that differ; "
                            "mirrorctl verify {} --repair sends the blocks of the "
                            "active node",
                            name, format_size(bytes), name));
        }
    }
}

/// Whoever makes a replica anew makes it as large as the file says.
void warn_of_sizes(const Context& context, const Keepers& keepers, Json& warnings) {
    const auto& volumes = context.as_read().volumes;
    for (const auto& [name, keeper] : keepers) {
        const auto block = read_superblock(keeper->meta_file());
        const auto volume = volumes.find(name);
        if (!block || volume == volumes.end()) {
            continue;
        }
        if (const std::string words = size_reminder(volume->second, block->size); !words.empty()) {
            warnings.push_back(
                fmt::format("volume {} has {}{}", name, format_size(block->size), words));
        }
    }
}

}  // namespace

Json check(const Context& context, const PeerWatch& peers, const Keepers& keepers) {
    Json problems = Json::array();
    Json nodes = Json::array();
    check_programs(problems);
    check_state_space(context, problems);
    check_backings(keepers, problems);
    check_open_backings(keepers, problems);
    const bool settled = check_settings(context, keepers, problems);
    check_groups(context, problems);
    check_steps(context, problems);
    std::map<std::string, PeerView> seen;
    for (const auto& [name, node] : context.used().nodes) {
        nodes.push_back(name == context.node.name
                            ? own_entry(context, settled)
                            : peer_entry(context, peers, node, seen[name], problems));
    }
    Json of_volumes = Json::array();
    check_volumes(keepers, seen, of_volumes);
    problems.insert(problems.end(), of_volumes.begin(), of_volumes.end());
    const bool all_reached = std::all_of(nodes.begin(), nodes.end(), [](const Json& entry) {
        return entry.at("reachable") == true;
    });
    check_addresses(context, all_reached, problems);
    Json answer = check_tls(context, peers, keepers, problems);
    warn_of_sizes(context, keepers, answer["warnings"]);
    answer["problems"] = std::move(problems);
    answer["volume_problems"] = std::move(of_volumes);
    answer["nodes"] = std::move(nodes);
    return answer;
}

}  // namespace mirror::daemon
