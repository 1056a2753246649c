// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/resolve.hpp"

#include <chrono>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "daemon/client_count.hpp"
#include "daemon/cut_off.hpp"
#include "daemon/demote.hpp"
#include "daemon/evidence.hpp"
#include "daemon/resolve_plan.hpp"
#include "daemon/rto.hpp"
#include "daemon/undo_keeping.hpp"

namespace mirror::daemon {
namespace {

/// Two disks are read and one is written: hours, where much has changed.
constexpr std::chrono::hours resolve_deadline{12};
constexpr std::chrono::seconds step_deadline{15};

Result<Sides> ask_sides(VolumeKeeper& keeper) {
    const auto answer = keeper.peers().ask_status(keeper.peer());
    if (!answer) {
        return Failure(
            Error{answer.error().kind,
                  fmt::format("{} can't be resolved: {}", keeper.name(), answer.error().message),
                  fmt::format("make {} reachable: its data is to be kept", keeper.peer())});
    }
    const auto found = answer->volumes.find(keeper.name());
    if (found == answer->volumes.end()) {
        return fail(ErrorKind::refused, "{} has no usable replica of {}", keeper.peer(),
                    keeper.name());
    }
    auto ours = keeper.summary();
    if (!ours) {
        return Failure(ours.error());
    }
    Sides sides{std::move(*ours), found->second.summary, last_write_of(keeper.backing_path())};
    sides.keeper.role = found->second.role;
    return sides;
}

/// Two replicas of which one just takes the writes of the other have not diverged, whatever the
/// other one says of itself: this node has seen to that.
Result<void> require_no_session(VolumeKeeper& keeper) {
    bool in_session = false;
    if (keeper.place() == Place::active) {
        keeper.engine().forget_status();
        const auto status = keeper.engine().status();
        const auto peer = status ? control::object_field(*status, "peer") : Failure(status.error());
        in_session = peer && (*peer)->value("link", "") == "connected";
    } else if (const auto lease = keeper.replica()) {
        const auto session = (*lease)->session();
        in_session = session && session->connections != 0;
    }
    if (!in_session) {
        return {};
    }
    return Failure(
        Error{ErrorKind::refused,
              fmt::format("{} has not diverged on {}: it replicates with {} in a current session",
                          keeper.name(), keeper.node(), keeper.peer()),
              fmt::format("mirrorctl status {} on both nodes", keeper.name())});
}

Result<void> require_resolvable(VolumeKeeper& keeper, const Sides& sides) {
    auto may = judge_resolution({keeper.name(), sides.loser, sides.keeper});
    return may ? require_no_session(keeper) : may;
}

/// What uses the volume on the losing node.
Result<void> require_unused(VolumeKeeper& keeper, const Sides& sides, bool disconnect) {
    const std::string& device = keeper.config().device;
    const bool attached = !device.empty() && keeper.devices().is_attached(device);
    // The device is a client too; whether anybody uses it is another question. Who else is
    // connected is found out by the demote.
    auto unused = require_no_clients({keeper.name(), sides.loser, sides.keeper,
                                      attached ? 0 : count_clients(keeper), disconnect});
    return unused && attached ? keeper.devices().require_unused(device) : unused;
}

std::string loss_text(const Sides& sides, const ResolvePlan& plan, bool no_undo) {
    if (plan.blocks && plan.lost_bytes == 0) {
        return {};
    }
    const std::string last = sides.last_write == WallTime{}
                                 ? std::string()
                                 : fmt::format(" (generation {}, last write {})",
                                               short_form(sides.loser.lineage.current()),
                                               format_rfc3339(sides.last_write));
    return fmt::format("{}{} in which {} differs from {}{}: {}", plan.blocks ? "" : "up to ",
                       format_size(plan.lost_bytes), sides.loser.node, sides.keeper.node, last,
                       no_undo ? "gone for good (--no-undo)" : "kept in an undo file only");
}

/// What a person must still do for the resync to begin; empty: it begins by itself.
std::string next_command(const VolumeKeeper& keeper, const Sides& sides) {
    return sides.keeper.role == Role::active
               ? std::string()
               : fmt::format("on {}: mirrorctl promote {}", sides.keeper.node, keeper.name());
}

/// The price is told whatever stands in the way now: a person looks at it before they unmount.
Json obstacle_json(const Result<void>& may) {
    return may ? Json()
               : Json{{"kind", to_string(may.error().kind)},
                      {"message", may.error().message},
                      {"remedy", may.error().remedy}};
}

Json dry_run_answer(VolumeKeeper& keeper, const Sides& sides, const ResolvePlan& plan,
                    const ResolveOptions& options, const Result<void>& may) {
    const std::string& loser = sides.loser.node;
    Json would = Json::array();
    if (keeper.place() == Place::active) {
        would.push_back(fmt::format("demote {} on {}", keeper.name(), loser));
    }
    if (!options.no_undo) {
        would.push_back(fmt::format("save {} of {} ({} run{}) in {}, which has {} free",
                                    format_size(plan.lost_bytes), loser, plan.runs,
                                    plan.runs == 1 ? "" : "s", keeper.home().state_dir,
                                    format_size(plan.free_bytes)));
    }
    would.push_back(
        fmt::format("give up the data of {} in favour of that of {}", loser, sides.keeper.node));
    const std::string next = next_command(keeper, sides);
    would.push_back(next.empty() ? fmt::format("resync {} from {}", loser, sides.keeper.node)
                                 : fmt::format("resync {} once {} is active ({})", loser,
                                               sides.keeper.node, next));
    return {{"would", std::move(would)},
            {"obstacle", obstacle_json(may)},
            {"loss", loss_text(sides, plan, options.no_undo)},
            {"keep", sides.keeper.node},
            {"lose", loser},
            {"lost_bytes", plan.lost_bytes},
            {"undo_bytes", options.no_undo ? Json() : Json(plan.undo_bytes)},
            {"free_bytes", plan.free_bytes},
            {"bytes", plan.lost_bytes},
            {"seconds", nullptr}};
}

Result<void> require_undo_space(VolumeKeeper& keeper, const ResolvePlan& plan,
                                const ResolveOptions& options) {
    return options.no_undo ? Result<void>{}
                           : require_space(plan, keeper.home().state_dir, keeper.node());
}

Result<ResolvePlan> plan_and_check(VolumeKeeper& keeper, const Sides& sides,
                                   const ResolveOptions& options) {
    auto plan = make_plan(keeper, sides.loser, sides.keeper, options.no_undo);
    if (plan) {
        if (auto fits = require_undo_space(keeper, *plan, options); !fits) {
            return Failure(fits.error());
        }
    }
    return plan;
}

/// As the real run would be judged, in the same order; what can be taken out of the way does not
/// keep the price from being told.
Result<Json> dry_run(VolumeKeeper& keeper, const Sides& sides, const ResolveOptions& options) {
    const auto plan = make_plan(keeper, sides.loser, sides.keeper, options.no_undo);
    auto may = require_unused(keeper, sides, options.disconnect_clients);
    if (!plan) {
        return Failure(may ? plan.error() : may.error());
    }
    if (may) {
        may = require_undo_space(keeper, *plan, options);
    }
    return dry_run_answer(keeper, sides, *plan, options, may);
}

/// The decision itself: one superblock.
Result<void> record_yield(Replica& replica, const Sides& sides) {
    return replica.update([&](Superblock& block) {
        block.yields_to = sides.keeper.lineage.current();
        block.last_active = false;
        if (block.state == ReplicaState::up_to_date) {
            block.state = ReplicaState::stale;
        }
    });
}

Result<Json> agreement(VolumeKeeper& keeper, const Sides& sides) {
    return keeper.peers().ask(keeper.peer(),
                              {{"request", "resolve-agree"},
                               {"volume", keeper.name()},
                               {"node", keeper.node()},
                               {"generation", to_string(sides.keeper.lineage.current())}},
                              step_deadline);
}

/// The keeper's engine would find out by itself after a while, but for a `disconnect` from before
/// the decision, which would leave that without an effect. What it says to it is told.
std::string wake_keeper(VolumeKeeper& keeper, const Sides& sides) {
    const std::string next = next_command(keeper, sides);
    if (!next.empty()) {
        return fmt::format("the resync begins when {} is active; {}", sides.keeper.node, next);
    }
    const auto told = keeper.peers().ask(
        keeper.peer(), {{"request", "connect"}, {"volume", keeper.name()}}, step_deadline);
    return told ? fmt::format("the resync from {} begins", sides.keeper.node)
                : fmt::format("the resync from {} does not begin automatically: {}",
                              sides.keeper.node, told.error().text());
}

/// On the losing node, with the volume standby and under its Operation. Saving takes hours without
/// another look at the keeper: it has agreed, and whatever it becomes meanwhile, what is given up
/// here is saved, and may be overwritten only by a history that contains `yields_to`.
Result<Json> give_up(VolumeKeeper& keeper, const Sides& sides, const ResolvePlan& plan,
                     const ResolveOptions& options, const Stopwatch& watch) {
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    Replica& replica = *lease->operator->();
    if (const auto agreed = agreement(keeper, sides); !agreed) {
        return Failure(agreed.error());
    }
    Json undo;
    if (!options.no_undo && plan.lost_bytes != 0) {
        auto saved = save_undo(keeper, replica, sides, plan);
        if (!saved) {
            return Failure(saved.error());
        }
        undo = std::move(*saved);
    }
    if (auto recorded = record_yield(replica, sides); !recorded) {
        return Failure(recorded.error());
    }
    const std::string loss = loss_text(sides, plan, options.no_undo);
    const std::string kept = undo.is_null()
                                 ? std::string()
                                 : fmt::format("; the writes that only {} had are in {}",
                                               sides.loser.node, undo["path"].get<std::string>());
    const std::string next = wake_keeper(keeper, sides);
    keeper.record(
        "resolved", Severity::warning,
        fmt::format("the split brain of {} was resolved: {} keeps its data, {} gives up {}{}",
                    keeper.name(), sides.keeper.node, sides.loser.node,
                    format_size(plan.lost_bytes), kept),
        "mirrorctl resolve was requested",
        undo.is_null()
            ? std::string()
            : fmt::format("on {}: mirrorctl undo {} --list", sides.loser.node, keeper.name()));
    return Json{{"text", fmt::format("{} of {} is kept{}; {}", keeper.name(), sides.keeper.node,
                                     kept, next)},
                {"loss", loss},
                {"lost_bytes", plan.lost_bytes},
                {"undo", std::move(undo)},
                {"seconds", watch.seconds()}};
}

/// With the volume standby here: nobody changes the replica while the Operation is held, so all is
/// looked at once more, and then done.
Result<Json> lose_as_standby(VolumeKeeper& keeper, const ResolveOptions& options,
                             const Stopwatch& watch) {
    const auto operation = keeper.begin("resolve");
    if (!operation) {
        return Failure(operation.error());
    }
    const auto sides = ask_sides(keeper);
    if (!sides) {
        return Failure(sides.error());
    }
    auto may = require_resolvable(keeper, *sides).and_then([&] {
        return require_unused(keeper, *sides, false);
    });
    if (!may) {
        return Failure(may.error());
    }
    const auto plan = plan_and_check(keeper, *sides, options);
    if (!plan) {
        return Failure(plan.error());
    }
    return give_up(keeper, *sides, *plan, options, watch);
}

/// All that may speak against it is found out before the clients lose their volume.
Result<Json> lose_as_active(VolumeKeeper& keeper, const Sides& sides, const ResolveOptions& options,
                            const Stopwatch& watch) {
    if (const auto plan = plan_and_check(keeper, sides, options); !plan) {
        return Failure(plan.error());
    }
    const auto demoted =
        demote(keeper, {.disconnect_clients = options.disconnect_clients, .cause = "resolve"});
    if (!demoted) {
        return Failure(demoted.error());
    }
    auto done = lose_as_standby(keeper, options, watch);
    if (!done) {
        return Failure(done.error().within(fmt::format(
            "{} was demoted on {}, but nothing else was done", keeper.name(), keeper.node())));
    }
    return done;
}

Result<Json> lose_here(VolumeKeeper& keeper, const ResolveOptions& options) {
    const Stopwatch watch(keeper.context().clock);
    const auto sides = ask_sides(keeper);
    if (!sides) {
        return Failure(sides.error());
    }
    if (auto may = require_resolvable(keeper, *sides); !may) {
        return Failure(may.error());
    }
    if (options.dry_run) {
        return dry_run(keeper, *sides, options);
    }
    if (auto unused = require_unused(keeper, *sides, options.disconnect_clients); !unused) {
        return Failure(unused.error());
    }
    return keeper.place() == Place::active ? lose_as_active(keeper, *sides, options, watch)
                                           : lose_as_standby(keeper, options, watch);
}

Result<Json> lose_there(VolumeKeeper& keeper, const ResolveOptions& options) {
    auto answer = keeper.peers().ask(keeper.peer(),
                                     {{"request", "resolve"},
                                      {"volume", keeper.name()},
                                      {"keep", options.keep},
                                      {"dry_run", options.dry_run},
                                      {"no_undo", options.no_undo},
                                      {"disconnect_clients", options.disconnect_clients}},
                                     resolve_deadline);
    keeper.engine().forget_status();
    const ErrorKind kind = answer ? ErrorKind::internal : answer.error().kind;
    if ((kind == ErrorKind::timed_out || kind == ErrorKind::unreachable) &&
        answer.error().remedy.empty()) {
        // Lost on the way there or on the way back: only that node knows.
        Error error = answer.error();
        error.remedy =
            fmt::format("the status of {0} shows whether it was done there, once {1} is back",
                        keeper.name(), keeper.peer());
        return Failure(std::move(error));
    }
    return answer;
}

}  // namespace

Result<Json> resolve(VolumeKeeper& keeper, const ResolveOptions& options) {
    if (options.keep == keeper.peer()) {
        return lose_here(keeper, options);
    }
    if (options.keep == keeper.node() && options.may_forward) {
        return lose_there(keeper, options);
    }
    return Failure(Error{ErrorKind::invalid,
                         fmt::format("{} has no replica of {}", options.keep, keeper.name()),
                         fmt::format("--keep {} or --keep {}", keeper.node(), keeper.peer())});
}

Result<Json> resolve_agree(VolumeKeeper& keeper, const Json& request) {
    const auto node = control::string_field(request, "node");
    const auto generation = control::id_field<GenerationId>(request, "generation");
    if (!node || !generation) {
        return Failure(node ? generation.error() : node.error());
    }
    const auto operation = keeper.begin(fmt::format("resolve on {}", *node));
    if (!operation) {
        return Failure(operation.error());
    }
    const auto ours = keeper.summary();
    if (!ours) {
        return Failure(ours.error());
    }
    if (!ours->lineage.contains(*generation)) {
        return fail(ErrorKind::refused, "{} does not hold generation {}", keeper.node(),
                    short_form(*generation));
    }
    if (ours->role == Role::standby && !ours->yields_to.is_none()) {
        const auto lease = keeper.replica();
        if (!lease) {
            return Failure(lease.error());
        }
        auto taken_back = (*lease)->update([](Superblock& block) { block.yields_to = {}; });
        if (!taken_back) {
            return Failure(taken_back.error());
        }
    }
    return Json::object();
}

}  // namespace mirror::daemon
