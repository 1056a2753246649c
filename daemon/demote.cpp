// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/demote.hpp"

#include <algorithm>
#include <unistd.h>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "core/nbd/signs_of_life.hpp"
#include "daemon/boot.hpp"
#include "daemon/client_count.hpp"
#include "daemon/rto.hpp"
#include "daemon/volume_steps.hpp"

namespace mirror::daemon {
namespace {

/// A checkpoint waits for writes in flight and for two disks to flush: for a peer that is silent
/// peer_timeout at most, for one whose disk works as long as the engine does.
std::chrono::milliseconds quiesce_deadline(const VolumeKeeper& keeper) {
    return std::max(keeper.config().peer_timeout, nbd::patience_with_work) +
           std::chrono::seconds(60);
}

/// How long a killed engine may take to end; less where nothing but its disk is waited for.
constexpr std::chrono::seconds engine_patience{20};
constexpr std::chrono::seconds hung_patience{3};

Json plan(const std::string& sentence) {
    return {{"would", Json::array({sentence})}, {"bytes", nullptr}, {"seconds", nullptr}};
}

Json already_standby(const VolumeKeeper& keeper, bool dry_run) {
    const std::string text =
        fmt::format("{} is not active on {}: nothing to do", keeper.name(), keeper.node());
    return dry_run ? plan(text) : Json{{"text", text}, {"seconds", 0}};
}

Result<void> detach_device(VolumeKeeper& keeper) {
    const std::string& device = keeper.config().device;
    return device.empty() ? Result<void>{} : keeper.devices().detach(device);
}

/// Without an engine. Nothing that waits on the device is ever answered, so that it can't be
/// unmounted either; who cuts off the clients ends that.
Result<void> free_device(VolumeKeeper& keeper, const DemoteOptions& options) {
    const std::string& device = keeper.config().device;
    if (device.empty()) {
        return {};
    }
    if (options.disconnect_clients) {
        return keeper.devices().drop(device).map([](bool) {});
    }
    return keeper.devices().detach(device).map_error([](Error error) {
        error.remedy +=
            "; or add --disconnect-clients: programs that use the device get I/O errors";
        return error;
    });
}

/// It was active when mirrord ended, and was to go on when the peer answers.
Result<Json> stop_waiting(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                          const DemoteOptions& options) {
    if (auto freed = free_device(keeper, options); !freed) {
        return Failure(freed.error());
    }
    if (auto settled = keeper.settle_as_standby(operation); !settled) {
        return Failure(settled.error());
    }
    const std::string text = fmt::format("{} is standby on {}, and is not resumed automatically",
                                         keeper.name(), keeper.node());
    keeper.record("demoted", Severity::info, text, "demote was requested");
    return Json{{"text", text}, {"seconds", 0}};
}

void attach_again(VolumeKeeper& keeper) {
    const std::string& device = keeper.config().device;
    if (!device.empty()) {
        const auto attached =
            keeper.devices().attach(device, keeper.paths().device_socket(), keeper.name());
        if (!attached) {
            log(LogLevel::warning, "{}: {}", keeper.name(), attached.error().text());
        }
    }
}

/// All that must survive, in one request to the engine, before it is killed.
Result<void> quiesce(VolumeKeeper& keeper, bool disconnect_clients) {
    const auto answer =
        keeper.engine().ask({{"request", "quiesce"}, {"disconnect_clients", disconnect_clients}},
                            quiesce_deadline(keeper));
    if (!answer) {
        return Failure(answer.error());
    }
    return {};
}

/// Whether the engine continues from the peer's copy, since the replica here failed; and what of
/// it did.
struct LeftOut {
    bool is_left_out = false;
    bool is_backing = true;
};

LeftOut local_replica_left_out(VolumeKeeper& keeper) {
    const auto status = keeper.engine().status();
    if (!status) {
        return {};
    }
    const auto fault = status->find("fault");
    return {status->value("local_failed", false), fault == status->end() || *fault != "metadata"};
}

/// The end of a role whose replica was left out: the peer has all that counts, whether or not the
/// files here can be opened.
Result<Json> give_up_failed(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                            const LeftOut& left_out, const Stopwatch& watch) {
    const auto settled = keeper.open_standby(operation, hung_patience).and_then([&] {
        return keeper.settle_as_standby(operation);
    });
    keeper.remove_marker();
    const std::string text =
        fmt::format("{} is standby on {}; its replica there failed, {} has the only good copy",
                    keeper.name(), keeper.node(), keeper.peer());
    keeper.record(
        "demoted", Severity::warning, text,
        settled ? "demote was requested" : settled.error().message,
        left_out.is_backing
            ? fmt::format("repair the disk of {}, then there mirrorctl create {} --replace",
                          keeper.node(), keeper.name())
            : fmt::format("make {} writable again (the backing is not at fault); {} is then "
                          "compared as a whole and resynced",
                          keeper.meta_file(), keeper.node()));
    return Json{{"text", text}, {"seconds", watch.seconds()}};
}

Result<Json> give_up(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                     const DemoteOptions& options) {
    const Stopwatch watch(keeper.context().clock);
    // Either may change before the engine is gone. One that dies is found out by quiesce(). A
    // replica that is left out later is one whose disk just failed: then its opening says so below,
    // or the end of the engine, and a second demote goes the other way.
    const bool was_running = keeper.engine_is_running();
    const LeftOut left_out = was_running ? local_replica_left_out(keeper) : LeftOut{};
    const bool was_left_out = left_out.is_left_out;
    if (was_running) {
        const bool was_attached =
            !keeper.config().device.empty() && keeper.devices().is_attached(keeper.config().device);
        if (auto detached = detach_device(keeper); !detached) {
            return Failure(detached.error());
        }
        if (auto quiet = quiesce(keeper, options.disconnect_clients);
            !quiet && keeper.engine_is_running()) {
            if (was_attached) {
                attach_again(keeper);
            }
            return Failure(quiet.error());
        }
    } else if (auto freed = free_device(keeper, options); !freed) {
        return Failure(freed.error());
    }
    if (was_left_out) {
        // Should its disk hang, killing it would leave its clients waiting.
        (void)keeper.engine().ask({{"request", "hang-up"}, {"asker", ::getpid()}},
                                  std::chrono::seconds(1));
    }
    if (auto ended = keeper.end_engine(operation, was_left_out ? hung_patience : engine_patience);
        !ended) {
        if (!was_left_out) {
            return Failure(ended.error());
        }
        // Its disk hangs, and holds a process that serves nothing any more.
        keeper.abandon_engine(operation, ended.error().message);
    }
    if (was_left_out) {
        return give_up_failed(keeper, operation, left_out, watch);
    }
    auto settled = keeper.open_standby(operation).and_then(
        [&] { return keeper.settle_as_standby(operation); });
    if (!settled) {
        return Failure(settled.error());
    }
    keeper.record("demoted", Severity::info,
                  fmt::format("{} is standby on {}", keeper.name(), keeper.node()),
                  was_running ? "demote was requested" : "demoted while its engine did not run");
    return Json{{"text", fmt::format("{} is standby on {}", keeper.name(), keeper.node())},
                {"seconds", watch.seconds()}};
}

Result<void> before_demote(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                           RoleSteps& steps, RoleSteps::Service service) {
    // The engine may die meanwhile, be started again, or the volume become standby: leave() looks
    // at the place again.
    const VolumeKeeper::Supervision supervision(keeper, operation);
    return steps.before_demote(service);
}

/// Its engine died while the hooks ran, and did not go on.
Result<Json> stay_down(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                       const DemoteOptions& options) {
    return keeper.waits_for_peer() ? stop_waiting(keeper, operation, options)
                                   : Result<Json>(already_standby(keeper, false));
}

/// With what stands around it: hooks and the mount.
Result<Json> leave(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                   const DemoteOptions& options) {
    RoleSteps steps = steps_of(keeper, options.cause);
    const auto service = keeper.engine_is_running()   ? RoleSteps::Service::running
                         : options.disconnect_clients ? RoleSteps::Service::cut_off
                                                      : RoleSteps::Service::dead;
    if (auto ready = before_demote(keeper, operation, steps, service); !ready) {
        return Failure(ready.error());
    }
    auto done = keeper.place() == Place::active ? give_up(keeper, operation, options)
                                                : stay_down(keeper, operation, options);
    if (keeper.place() == Place::active) {
        const VolumeKeeper::Supervision supervision(keeper, operation);
        steps.demote_cancelled();
    } else {
        steps.after_demote();
    }
    return done;
}

/// As the engine refuses it (Volume::quiesce); those of the device end with it.
Result<void> require_no_clients(VolumeKeeper& keeper, const DemoteOptions& options) {
    if (options.disconnect_clients) {
        return {};
    }
    const std::uint64_t others = count_clients_who_stay(keeper);
    if (others == 0) {
        return {};
    }
    return Failure(Error{ErrorKind::busy,
                         fmt::format("volume {} is in use on {} by {} client connection{}",
                                     keeper.name(), keeper.node(), others, others == 1 ? "" : "s"),
                         "unmount it and stop the programs that use it, or add "
                         "--disconnect-clients: they get I/O errors"});
}

Result<Json> plan_to_leave(VolumeKeeper& keeper, const DemoteOptions& options) {
    RoleSteps steps = steps_of(keeper, options.cause);
    if (auto leavable = steps.require_leavable(); !leavable) {
        return Failure(leavable.error());
    }
    if (auto unused = steps.require_no_users(); !unused && !steps.has_hooks()) {
        return Failure(unused.error());
    }
    const VolumeConfig& config = keeper.config();
    const bool is_mounted_by_us = !config.mount.empty() && !steps.lacks_mount();
    if (!config.device.empty() && !is_mounted_by_us) {
        if (auto unused = keeper.devices().require_unused(config.device); !unused) {
            return Failure(unused.error());
        }
    }
    if (auto unused = require_no_clients(keeper, options); !unused) {
        return Failure(unused.error());
    }
    Json would = Json::array();
    for (std::string& step : steps.demotion_plan()) {
        would.push_back(std::move(step));
    }
    would.push_back(fmt::format("make both replicas of {} durable, then stop serving it on {}",
                                keeper.name(), keeper.node()));
    return Json{{"would", would}, {"bytes", nullptr}, {"seconds", nullptr}};
}

Result<void> require_device(const VolumeKeeper& keeper) {
    if (keeper.config().device.empty()) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("volume {} has no device", keeper.name()),
                             fmt::format("set device in [volume.{}] of {}, on both nodes, and "
                                         "restart mirrord",
                                         keeper.name(), keeper.context().used().path)});
    }
    return {};
}

Result<void> require_active(VolumeKeeper& keeper) {
    if (keeper.place() != Place::active) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} is not active on {}", keeper.name(), keeper.node()),
                             fmt::format("mirrorctl promote {}", keeper.name())});
    }
    return {};
}

Json device_answer(VolumeKeeper& keeper, const char* event, const char* done,
                   const Stopwatch& watch) {
    const std::string& device = keeper.config().device;
    const std::string text = fmt::format("{} is {} {}", keeper.name(), done, device);
    keeper.record(event, Severity::info, text);
    return {{"text", text}, {"device", device}, {"seconds", watch.seconds()}};
}

}  // namespace

Result<Json> demote(VolumeKeeper& keeper, const DemoteOptions& options) {
    const auto operation = keeper.begin("demote");
    if (!operation) {
        return Failure(operation.error());
    }
    if (!options.dry_run) {
        note_boot_decided(keeper.context().node, keeper.name());
    }
    if (keeper.place() != Place::active) {
        if (keeper.waits_for_peer() && !options.dry_run) {
            auto done = stop_waiting(keeper, *operation, options);
            if (done) {
                steps_of(keeper, options.cause).after_demote();
            }
            return done;
        }
        return already_standby(keeper, options.dry_run);
    }
    return options.dry_run ? plan_to_leave(keeper, options) : leave(keeper, *operation, options);
}

Result<Json> attach(VolumeKeeper& keeper, bool dry_run) {
    const auto operation = keeper.begin("attach");
    if (!operation) {
        return Failure(operation.error());
    }
    const std::string& device = keeper.config().device;
    if (auto ready = require_device(keeper).and_then([&] { return require_active(keeper); });
        !ready) {
        return Failure(ready.error());
    }
    if (dry_run) {
        return plan(fmt::format("attach {} as {}", keeper.name(), device));
    }
    const Stopwatch watch(keeper.context().clock);
    if (auto done = keeper.devices().attach(device, keeper.paths().device_socket(), keeper.name());
        !done) {
        return Failure(done.error());
    }
    return device_answer(keeper, "device-attached", "attached as", watch);
}

Result<Json> detach(VolumeKeeper& keeper, bool dry_run) {
    const auto operation = keeper.begin("detach");
    if (!operation) {
        return Failure(operation.error());
    }
    if (auto ready = require_device(keeper); !ready) {
        return Failure(ready.error());
    }
    const std::string& device = keeper.config().device;
    const Stopwatch watch(keeper.context().clock);
    if (dry_run) {
        if (auto unused = keeper.devices().require_unused(device); !unused) {
            return Failure(unused.error());
        }
        return plan(fmt::format("detach {} from {}", keeper.name(), device));
    }
    if (auto done = keeper.devices().detach(device); !done) {
        return Failure(done.error());
    }
    return device_answer(keeper, "device-detached", "no longer attached as", watch);
}

Result<Json> ask_active(VolumeKeeper& keeper, const Json& request, bool may_forward) {
    const auto verb = control::string_field(request, "request");
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!verb || !dry_run) {
        return Failure(verb ? dry_run.error() : verb.error());
    }
    const Stopwatch watch(keeper.context().clock);
    // No operation is held for a question that may take hours: who gets it, here or there, says
    // whether it is active by then.
    if (keeper.place() == Place::active) {
        // The engine itself knows what a comparison would read.
        if (*dry_run && *verb != "verify") {
            const auto may = keeper.engine().ask({{"request", "judge"}, {"verb", *verb}},
                                                 quiesce_deadline(keeper));
            // An engine that was started before this question existed does not know it.
            if (!may && may.error().kind != ErrorKind::invalid) {
                return Failure(may.error());
            }
            const auto behind = behind_bytes(keeper.facts());
            Json answer = plan(fmt::format("{} {} with {}", *verb, keeper.name(), keeper.peer()));
            answer["bytes"] = *verb != "disconnect" && behind ? Json(*behind) : Json();
            return answer;
        }
        auto answer = keeper.engine().ask(request, quiesce_deadline(keeper));
        keeper.engine().forget_status();
        if (answer && answer->is_object() && !answer->contains("seconds")) {
            (*answer)["seconds"] = watch.seconds();
        }
        return answer;
    }
    if (may_forward) {
        const auto answer = keeper.peers().ask_status(keeper.peer());
        if (!answer) {
            return Failure(answer.error().within(
                fmt::format("{} is not active on {}", keeper.name(), keeper.node())));
        }
        const auto found = answer->volumes.find(keeper.name());
        if (found != answer->volumes.end() && found->second.role == Role::active) {
            return keeper.peers().ask(keeper.peer(), request,
                                      quiesce_deadline(keeper) + std::chrono::seconds(5));
        }
    }
    return Failure(Error{ErrorKind::refused,
                         fmt::format("{} is not active on any node, so there is nothing to {}",
                                     keeper.name(), *verb),
                         fmt::format("mirrorctl promote {}", keeper.name())});
}

}  // namespace mirror::daemon
