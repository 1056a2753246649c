// SPDX-License-Identifier: BSD-3-Clause
// mirrord: the daemon of a node. It stays in the foreground, says when it is ready, and ends
// cleanly on SIGTERM and SIGINT; engines of active volumes go on without it.
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <linux/capability.h>
#include <memory>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/base/memory_lock.hpp"
#include "core/base/privileges.hpp"
#include "core/base/stderr_relay.hpp"
#include "core/config/control_group.hpp"
#include "core/config/mistakes.hpp"
#include "core/config/this_node.hpp"
#include "core/control/messages.hpp"
#include "core/nbd/look_up.hpp"
#include "core/nbd/server.hpp"
#include "daemon/backing_watch.hpp"
#include "daemon/boot.hpp"
#include "daemon/device/netlink.hpp"
#include "daemon/endpoint.hpp"
#include "daemon/event_hooks.hpp"
#include "daemon/exports.hpp"
#include "daemon/key_watch.hpp"
#include "daemon/live_config.hpp"
#include "daemon/reload.hpp"
#include "daemon/run_dir_watch.hpp"
#include "daemon/service.hpp"
#include "daemon/signals.hpp"
#include "daemon/silence.hpp"
#include "daemon/state_space.hpp"
#include "daemon/strangers.hpp"
#include "daemon/unsupervised.hpp"
#include "daemon/volume_home.hpp"
#include "daemon/watchdog.hpp"

namespace mirror::daemon {
namespace {

struct Options {
    std::string config;
    std::string node;
    std::string listen;
    bool verbose = false;
};

/// What no hook has a reason for, let alone mirrord; the unit's CapabilityBoundingSet says the same
/// for who has systemd.
constexpr auto needless_capabilities = std::to_array<unsigned>(
    {CAP_AUDIT_READ, CAP_BLOCK_SUSPEND, CAP_LEASE, CAP_MAC_ADMIN, CAP_MAC_OVERRIDE, CAP_SYS_BOOT,
     CAP_SYS_PACCT, CAP_SYS_TIME, CAP_SYS_TTY_CONFIG, CAP_SYSLOG, CAP_WAKE_ALARM});

/// For a question that no disk and no peer has a part in.
constexpr std::chrono::seconds self_test_patience{10};

/// A flood of connections must run into the server's limits, not into the process's.
void raise_file_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void tell_listening(const Context& context, const Endpoint& endpoint,
                    const nbd::Server::Listening& listening) {
    std::vector<std::string> numbers;
    bool is_local = true;
    for (const Endpoint& bound : listening.bound) {
        numbers.push_back(bound.text());
        is_local = is_local && bound.is_loopback();
    }
    log(LogLevel::info, "node {} listens on {} and {}", context.node.name, fmt::join(numbers, ", "),
        context.node.daemon_socket());
    for (const Error& error : listening.failed) {
        log(LogLevel::warning, "an address of {} is ignored: {}", endpoint.host, error.text());
    }
    if (is_local && !endpoint.is_loopback()) {
        log(LogLevel::warning,
            "{} is a loopback address on this machine: no other one can connect (mirrorctl check)",
            endpoint.host);
    }
}

Result<void> listen_for_people(nbd::Server& server, const Context& context) {
    const unsigned mode = context.control_group ? 0660 : 0600;
    return server.listen_unix(context.node.daemon_socket(), mode, context.control_group);
}

Result<void> listen(nbd::Server& server, const Context& context, const Options& options) {
    Endpoint endpoint = context.node.address;
    if (!options.listen.empty()) {
        auto given = parse_endpoint(options.listen);
        if (!given) {
            return Failure(given.error().within("--listen"));
        }
        endpoint = std::move(*given);
    }
    const auto listening =
        nbd::look_up(endpoint.host).and_then([&](const std::vector<std::string>& numbers) {
            return server.listen_on(numbers, endpoint.port);
        });
    if (!listening) {
        return Failure(listening.error().within(
            fmt::format("the address {} of {}", endpoint.text(), context.node.name)));
    }
    // After the peers: whoever is answered here may ask the other node at once, which asks back.
    if (auto bound = listen_for_people(server, context); !bound) {
        return bound;
    }
    tell_listening(context, endpoint, *listening);
    return {};
}

void tell_keeper_of(const std::string& device, const Keepers& keepers) {
    for (const auto& [name, keeper] : keepers) {
        if (keeper->config().device == device) {
            keeper->on_link_dead();
        }
    }
}

void tell_keepers(const Keepers& keepers, const std::string& node, const PeerView& view,
                  PeerWatch::Change change) {
    for (const auto& [name, keeper] : keepers) {
        if (keeper->peer() == node) {
            keeper->on_peer(view, change);
        }
    }
}

/// A peer with many volumes has many connections; whoever has an export open over TLS is one.
nbd::ServerLimits limits_for(const Context& context) {
    constexpr std::size_t of_a_volume = 8;  // a session has four, and the next one overlaps it
    constexpr std::size_t besides = 64;
    nbd::ServerLimits limits;
    limits.stall_timeout = std::max(limits.stall_timeout, silence_of(context.used()));
    limits.open = std::max(limits.open, besides + of_a_volume * context.used().volumes.size());
    limits.open_of_one_peer = context.tls ? limits.open : limits.open / 4 * 3;
    // One peer of several leaves the others theirs.
    limits.open *= std::max<std::size_t>(context.used().nodes.size(), 2) - 1;
    return limits;
}

Result<Json> handle_reload(Reload& reload, const Json& request) {
    return control::bool_field_or(request, "dry_run", false).and_then([&](bool dry_run) {
        return reload.run(dry_run);
    });
}

Result<void> serve(const Context& context, LiveConfig& live, const Options& options,
                   Instance& instance, StderrRelay& relay) {
    const std::string who = fmt::format("mirrord of {}", context.node.name);
    give_up_capabilities(who, needless_capabilities);
    relay.start();
    stand_memory_pressure(who);
    EventHooks event_hooks(context);
    event_hooks.find_place();
    NetlinkDriver driver;
    NbdDialler dialler;
    NbdAttacher devices(context, driver, dialler);
    PeerWatch peers(context);
    Keepers keepers;
    for (const auto& [name, home] : live.now().homes) {
        (void)keepers.put(std::make_unique<VolumeKeeper>(context, home, peers, devices));
    }
    Requests requests(context, keepers, peers, &event_hooks);
    nbd::Server* listening_server = nullptr;
    // Before the server, whose connections' threads may ask for it until the server is gone.
    Reload reload(Reload::Parts{context, live, keepers, peers, devices, [&] {
                                    if (listening_server != nullptr) {
                                        listening_server->set_limits(limits_for(context));
                                    }
                                }});
    requests.on_reload([&](const Json& request) { return handle_reload(reload, request); });
    Exports exports(requests, keepers);
    Strangers strangers(context);
    nbd::Server server(exports, limits_for(context), context.tls);
    listening_server = &server;
    server.on_stranger(
        [&](const nbd::Client& client, const Error& error) { strangers.note(client, error); });
    KeyWatch keys(context, server);
    BackingWatch backings(keepers);
    // First, so that no connection dies unheard after a keeper has looked at its device.
    const LinkDeadListener link_dead(
        [&](DeviceIndex index) { tell_keeper_of(device_of_index(index), keepers); });
    for (const auto& [name, keeper] : keepers) {
        if (auto started = keeper->start(); !started) {
            return started;
        }
    }
    for (const Unsupervised& engine : unsupervised(context, keepers)) {
        context.events.record({"engine-unsupervised",
                               Severity::error,
                               engine.process.volume,
                               engine.text,
                               {},
                               engine.remedy});
    }
    if (auto listening = listen(server, context, options); !listening) {
        return listening;
    }
    StateSpaceWatch space(context, keepers);
    BootPromotions boot(context, keepers);
    RunDirWatch run_dir(context, keepers, instance,
                        [&] { return listen_for_people(server, context); });
    Watchdog watchdog([&] { return answers_itself(context, keepers, self_test_patience); },
                      notify_service_manager);
    const auto started =
        peers
            .start([&](const std::string& node, const PeerView& view, PeerWatch::Change change) {
                tell_keepers(keepers, node, view, change);
            })
            .and_then([&] { return keys.start(); })
            .and_then([&] { return backings.start(); })
            .and_then([&] { return space.start(); })
            .and_then([&] { return boot.start(); })
            .and_then([&] { return run_dir.start(); })
            .and_then([&] { return event_hooks.start(); })
            .and_then([&] { return watchdog.start(watchdog_limit()); });
    if (!started) {
        return started;
    }
    reload.open();
    notify_service_manager("READY=1");
    context.events.record({"daemon-started", Severity::info, "",
                           fmt::format("mirrord of {} is running (version {}, process {})",
                                       context.node.name, MIRROR_VERSION, ::getpid())});
    const std::string why = wait_for_end([&] { (void)reload.run(/*dry_run=*/false); });
    context.events.record(
        {"daemon-stopped", Severity::info, "",
         fmt::format("mirrord of {} is stopping; engines of active volumes continue",
                     context.node.name),
         why});
    notify_service_manager("STOPPING=1");
    watchdog.stop();
    reload.stop();
    run_dir.stop();
    boot.stop();
    backings.stop();
    space.stop();
    keys.stop();
    peers.stop();
    server.stop();
    for (const auto& [name, keeper] : keepers) {
        keeper->stop();
    }
    event_hooks.stop();  // last: it tells of the end, too
    return {};
}

/// All of them: a person who starts mirrord wants to correct the file once.
Error tell_mistakes(const Mistakes& mistakes, const std::string& path) {
    if (mistakes.size() == 1) {
        return mistakes.front().error;
    }
    for (const Mistake& mistake : mistakes) {
        log(LogLevel::error, "{}", mistake.error.text());
    }
    return {ErrorKind::invalid, fmt::format("{} has {} mistakes", path, mistakes.size()),
            "correct them (mirrorctl check lists them, too), then start mirrord"};
}

Result<void> run(const Options& options, StderrRelay& relay) {
    // Absolute: what stands beside the file is told to engines, which run in another folder.
    const std::string path = std::filesystem::absolute(config_path(options.config)).string();
    const auto config = read_config_file(path);
    if (!config) {
        return Failure(tell_mistakes(config.error(), path));
    }
    const auto node = this_node(*config, options.node);
    if (!node) {
        return Failure(node.error());
    }
    const auto control_group = find_control_group(*config);
    if (!control_group) {
        return Failure(control_group.error());
    }
    block_signals();
    raise_file_limit();
    if (auto made = make_directories(**node); !made) {
        return made;
    }
    auto instance = Instance::claim((*node)->run_dir);
    if (!instance) {
        return Failure(instance.error());
    }
    EventLog events((*node)->state_dir + "/events.jsonl", (*node)->name, system_clock());
    const Homes homes = find_homes(*config, **node, find_engines());
    LiveConfig live({*config, homes, in_force(*config, homes)});
    const LiveConfig::Version& first = live.now();
    const Context context{.config = first.used,
                          .node = **node,
                          .clock = system_clock(),
                          .events = events,
                          .control_group = *control_group,
                          .tls = tls::Credentials::of(*config, (*node)->name),
                          .listens_elsewhere = !options.listen.empty(),
                          .file = &first.read,
                          .homes = &first.homes,
                          .live = &live};
    return serve(context, live, options, *instance, relay);
}

int run_program(int argc, char** argv) {
    Options options;
    CLI::App app{"mirrord - the mirrordisk daemon: serves this node's volumes", "mirrord"};
    app.add_option(
           "--config", options.config,
           "the configuration (default: $MIRRORDISK_CONFIG or /etc/mirrordisk/mirrordisk.toml)")
        ->option_text("FILE");
    app.add_option("--node", options.node,
                   "this node's name (default: $MIRRORDISK_NODE or the host name)")
        ->option_text("NAME");
    app.add_option("--listen", options.listen, "listen on this address instead of the node's")
        ->option_text("HOST:PORT");
    app.add_flag("--verbose", options.verbose, "log more");
    app.set_version_flag("--version", "mirrord " MIRROR_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    set_log_verbose(options.verbose);
    StderrRelay relay;
    const auto done = run(options, relay);
    if (!done) {
        log(LogLevel::error, "mirrord: {}", done.error().text());
        return 1;
    }
    return 0;
}

}  // namespace
}  // namespace mirror::daemon

int main(int argc, char** argv) {
    try {
        return mirror::daemon::run_program(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "mirrord: %s\n", error.what());
        return 1;
    }
}
