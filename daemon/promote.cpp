// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/promote.hpp"

#include <thread>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "core/meta/transitions.hpp"
#include "core/store/file_store.hpp"
#include "daemon/audience.hpp"
#include "daemon/boot.hpp"
#include "daemon/evidence.hpp"
#include "daemon/rto.hpp"
#include "daemon/volume_steps.hpp"

namespace mirror::daemon {
namespace {

Error refusal(const VolumeKeeper& keeper, const PromotionVerdict& verdict) {
    return {
        ErrorKind::refused,
        fmt::format("{} is not promoted on {}: {}", keeper.name(), keeper.node(), verdict.reason),
        verdict.remedy};
}

/// The peer's replica as it says now, or why there is none. It may say something else a moment
/// later: where it has a say, ask_agreement() has it look again under its own operation; what it
/// did to the replica here, a session above all, is seen by become_active().
void ask_peer_summary(VolumeKeeper& keeper, PromotionRequest& request) {
    const auto answer = keeper.peers().ask_status(keeper.peer());
    if (!answer) {
        log(LogLevel::info, "{}: {}", keeper.name(), why_not_seen(keeper.peer(), answer.error()));
        if (was_reached(answer.error())) {
            request.peer_absence = why_not_seen(keeper.peer(), answer.error());
            request.peer_remedy = answer.error().remedy;
        }
        return;
    }
    const auto found = answer->volumes.find(keeper.name());
    if (found == answer->volumes.end()) {
        const NoReplica none = why_no_replica(*answer, keeper.name());
        request.peer_absence = none.reason;
        request.peer_remedy = none.remedy;
        request.peer_has_no_replica = true;
        return;
    }
    request.peer = found->second.summary;
    request.peer->role = found->second.role;
}

/// A file that was cut since it was opened would be found out by the engine only. One that is
/// longer grew before the volume did.
Result<void> require_backing(const VolumeKeeper& keeper, const ReplicaSummary& ours) {
    const auto info = inspect_backing(keeper.backing_path());
    if (!info) {
        return Failure(info.error());
    }
    if (!info->exists || info->size < ours.size) {
        return fail(ErrorKind::refused, "{} has {} bytes, but volume {} has {}",
                    keeper.backing_path(), info->size, keeper.name(), ours.size);
    }
    return {};
}

Result<PromotionVerdict> judge(VolumeKeeper& keeper, const PromoteOptions& options) {
    PromotionRequest request;
    {
        const auto lease = keeper.replica();
        if (!lease) {
            return Failure(lease.error());
        }
        request.ours = (*lease)->summary();
    }
    if (auto fitting = require_backing(keeper, request.ours); !fitting) {
        return Failure(fitting.error());
    }
    ask_peer_summary(keeper, request);
    if (options.force && request.peer && request.peer->volume != request.ours.volume) {
        request.peer.reset();  // another volume under our name has no say about this one
    }
    if (options.after_demote && request.peer) {
        request.peer->role = Role::standby;
        request.peer->unclean = false;
    }
    request.peer_name = keeper.peer();
    request.force = options.force;
    request.fenced = options.fenced;
    request.volume_name = keeper.name();
    request.last_write = last_write_of(keeper.backing_path());
    return judge_promotion(request);
}

Result<void> ask_agreement(VolumeKeeper& keeper) {
    const auto ours = keeper.summary();
    if (!ours) {
        return Failure(ours.error());
    }
    const auto answer = keeper.peers().ask(keeper.peer(),
                                           {{"request", "agree"},
                                            {"volume", keeper.name()},
                                            {"node", keeper.node()},
                                            {"summary", control::encode(*ours)}},
                                           keeper.config().peer_timeout + std::chrono::seconds(5));
    if (!answer) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} is not promoted on {}: {} did not agree: {}", keeper.name(),
                              keeper.node(), keeper.peer(), answer.error().message),
                  answer.error().remedy});
    }
    return {};
}

/// The superblock before and after the durable half of taking over.
struct Taken {
    Superblock before;
    Superblock after;
};

/// The durable half of taking over; `before` is the superblock to return to. Sessions don't need
/// the operation: whatever one changed since the verdict, while peer and hooks were waited for, is
/// looked for in the update itself.
Result<void> become_active(VolumeKeeper& keeper, const PromotionVerdict& verdict, Taken& taken) {
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    const WallTime now = keeper.context().clock.wall_now();
    bool is_as_judged = false;
    auto recorded = (*lease)->update([&](Superblock& block) {
        taken.before = block;
        is_as_judged = block.session == verdict.session && block.state == verdict.state &&
                       block.lineage.current() == verdict.generation;
        if (is_as_judged) {
            mirror::take_over(block, verdict, random_id<GenerationId>(), now, keeper.node());
        }
        taken.after = block;
    });
    if (recorded && !is_as_judged) {
        return Failure(Error{ErrorKind::busy,
                             fmt::format("in the meantime {} began to replicate {} to {}",
                                         keeper.peer(), keeper.name(), keeper.node()),
                             fmt::format("mirrorctl status {}, then try again", keeper.name())});
    }
    return recorded;
}

/// Which marks the superblock at once, and offers steps before it answers.
bool has_served(const Superblock& now, const Taken& taken) {
    return (now.unclean && !taken.before.unclean) || !(now.lineage == taken.after.lineage) ||
           !(now.steps == taken.after.steps) || now.session != taken.after.session;
}

/// The engine did not start, so nothing was written in the new role: as before, but for the token,
/// which the peer may have given up for us. One that began to serve before it was given up may have
/// answered writes to whoever found its socket: what it left is what the volume is.
void roll_back(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation, const Taken& taken) {
    keeper.remove_marker();
    if (auto opened = keeper.open_standby(operation); !opened) {
        log(LogLevel::error, "{}", opened.error().text());
        return;
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return;
    }
    auto restored = (*lease)->update([&](Superblock& block) {
        block.role = Role::standby;
        if (has_served(block, taken)) {
            return;
        }
        const Superblock& before = taken.before;
        block.lineage = before.lineage;
        block.state = before.state;
        block.solo = before.solo;
        block.steps = before.steps;
        block.doubtful = before.doubtful;
        block.yields_to = before.yields_to;
        block.lacking_bytes = before.lacking_bytes;
        block.break_at = before.break_at;
    });
    if (!restored) {
        log(LogLevel::error, "{}: {}", keeper.name(), restored.error().text());
    }
}

Json dry_run_answer(VolumeKeeper& keeper, const PromotionVerdict& verdict) {
    Json would = Json::array();
    would.push_back(
        fmt::format("promote {} on {}: {}", keeper.name(), keeper.node(), verdict.reason));
    if (verdict.needs_agreement) {
        would.push_back(fmt::format("ask {} to agree first", keeper.peer()));
    }
    if (verdict.new_generation) {
        would.push_back(
            fmt::format("begin a new generation ({})", to_string(*verdict.new_generation)));
    }
    if (!verdict.loss.empty()) {
        would.push_back("accept the loss");
    }
    if (!keeper.config().device.empty()) {
        would.push_back("attach it as " + keeper.config().device);
    }
    for (std::string& step : steps_of(keeper, "promote").promotion_plan()) {
        would.push_back(std::move(step));
    }
    return {{"would", would}, {"bytes", nullptr}, {"seconds", nullptr}, {"loss", verdict.loss}};
}

std::string attach_device(VolumeKeeper& keeper) {
    const std::string& device = keeper.config().device;
    if (device.empty()) {
        return {};
    }
    const auto attached =
        keeper.devices().attach(device, keeper.paths().device_socket(), keeper.name());
    if (attached) {
        keeper.record("device-attached", Severity::info,
                      fmt::format("{} is attached as {}", keeper.name(), device));
        return {};
    }
    keeper.record("device-attach-failed", Severity::warning,
                  fmt::format("{} could not be attached as {}", keeper.name(), device),
                  attached.error().message, attached.error().remedy);
    return fmt::format("; {} was not attached: {}", device, attached.error().text());
}

bool is_attached(VolumeKeeper& keeper) {
    const std::string& device = keeper.config().device;
    return !device.empty() && keeper.devices().is_attached(device);
}

void record_promotion(VolumeKeeper& keeper, const PromotionVerdict& verdict,
                      const std::string& cause) {
    const bool forced = verdict.new_generation == GenerationReason::forced_promotion;
    keeper.record(forced ? "forced-promotion" : "promoted",
                  forced ? Severity::warning : Severity::info,
                  fmt::format("{} is active on {}{}{}", keeper.name(), keeper.node(),
                              verdict.loss.empty() ? "" : "; accepted loss: ", verdict.loss),
                  cause == "boot" ? "active_at_boot; " + verdict.reason : verdict.reason);
}

/// A session that is being used is an active that lives, whatever its mirrord says. An active that
/// just died was heard a moment ago, too: whether it lives shows in the next request, and idle
/// links send one several times within peer_timeout.
Result<void> require_silence(VolumeKeeper& keeper) {
    constexpr std::chrono::milliseconds interval{10};
    const Clock& clock = keeper.context().clock;
    // What a dead one sent is applied for a moment still.
    const SteadyTime settled_at = clock.steady_now() + keeper.config().peer_timeout / 10;
    for (;; std::this_thread::sleep_for(interval)) {
        // For each look a lease of its own. A session that begins after the last one is seen by
        // become_active().
        const auto lease = keeper.replica();
        if (!lease) {
            return Failure(lease.error());
        }
        const auto session = (*lease)->session();
        if (!session || session->connections == 0 ||
            clock.steady_now() - session->last_request > keeper.config().peer_timeout) {
            return {};
        }
        if (session->last_request > settled_at) {
            return Failure(
                Error{ErrorKind::refused,
                      fmt::format("{} is not promoted on {}: {} is active and sends "
                                  "requests",
                                  keeper.name(), keeper.node(), session->source),
                      fmt::format("mirrorctl switch {} --to {}, or stop the engine on {}",
                                  keeper.name(), keeper.node(), session->source)});
        }
    }
}

std::string after_promote(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                          RoleSteps& steps) {
    // The engine may die meanwhile and be started again, or the volume become standby: nothing
    // comes after this but the answer.
    const VolumeKeeper::Supervision supervision(keeper, operation);
    return steps.after_promote(is_attached(keeper));
}

Result<Json> take_over(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                       const PromotionVerdict& verdict, RoleSteps& steps, const std::string& cause,
                       Stopwatch& watch) {
    if (verdict.needs_agreement) {
        if (auto agreed = ask_agreement(keeper); !agreed) {
            return Failure(agreed.error());
        }
    }
    watch.end_phase("agree");
    Taken taken;
    if (auto active = become_active(keeper, verdict, taken); !active) {
        return Failure(active.error());
    }
    keeper.close_replica(operation);
    auto started = keeper.write_marker().and_then([&] { return keeper.start_engine(operation); });
    watch.end_phase("engine");
    if (!started) {
        roll_back(keeper, operation, taken);
        return Failure(started.error().within(fmt::format("{} stays standby", keeper.node())));
    }
    note_boot_decided(keeper.context().node, keeper.name());
    std::string warning = attach_device(keeper);
    watch.end_phase("attach");
    record_promotion(keeper, verdict, cause);
    warning += after_promote(keeper, operation, steps);
    if (steps.has_run_hooks() || !keeper.config().mount.empty()) {
        watch.end_phase("hooks");
    }
    write_rto(keeper.home(), keeper.name(), watch);
    return Json{{"text", fmt::format("{} is active on {}: {}{}", keeper.name(), keeper.node(),
                                     verdict.reason, warning)},
                {"loss", verdict.loss},
                {"phases", watch.phases()},
                {"seconds", watch.seconds()}};
}

/// Active already: what is missing of device and mount is made good, mostly after a mkfs.
Result<Json> stay_active(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                         const PromoteOptions& options) {
    const std::string text =
        fmt::format("{} is active on {} already", keeper.name(), keeper.node());
    Json answer{{"loss", ""}, {"phases", Json::object()}, {"bytes", nullptr}, {"seconds", 0}};
    if (options.dry_run) {
        answer["would"] = Json::array({"nothing: " + text});
        return answer;
    }
    std::string rest;
    if (RoleSteps steps = steps_of(keeper, options.cause);
        keeper.engine_is_running() && steps.lacks_mount()) {
        const Stopwatch watch(keeper.context().clock);
        if (!is_attached(keeper)) {
            rest = attach_device(keeper);
        }
        rest += after_promote(keeper, operation, steps);
        if (!steps.lacks_mount()) {
            rest = fmt::format("; it is mounted on {} now{}", keeper.config().mount, rest);
        }
        answer["seconds"] = watch.seconds();
    }
    answer["text"] = text + rest;
    return answer;
}

/// The verdict, when it allows the promotion; otherwise why not, also as an event.
Result<PromotionVerdict> admit(VolumeKeeper& keeper, const PromoteOptions& options) {
    auto verdict = judge(keeper, options);
    if (!verdict || verdict->allowed) {
        return verdict;
    }
    const Error error = refusal(keeper, *verdict);
    if (!options.dry_run) {
        keeper.record("promotion-refused", Severity::warning, error.message, verdict->reason,
                      error.remedy);
    }
    return Failure(error);
}

/// From the last of the hooks that may refuse to the first that can't.
Result<Json> carry_out(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                       const PromoteOptions& options, PromotionVerdict verdict, RoleSteps& steps,
                       Stopwatch& watch) {
    if (steps.has_run_hooks()) {
        auto now = admit(keeper, options);  // they took their time
        if (!now) {
            return Failure(now.error());
        }
        verdict = std::move(*now);
        watch.end_phase("before-hooks");
    }
    if (auto silence = require_silence(keeper); !silence) {
        keeper.record("promotion-refused", Severity::warning, silence.error().message, {},
                      silence.error().remedy);
        return Failure(silence.error());
    }
    return take_over(keeper, operation, verdict, steps, options.cause, watch);
}

}  // namespace

Result<Json> promote(VolumeKeeper& keeper, const PromoteOptions& options) {
    const auto operation = keeper.begin("promote");
    if (!operation) {
        return Failure(operation.error());
    }
    // Since the one who asks for it looked, somebody may have decided, a demotion above all; under
    // the operation nobody does any more.
    if (options.cause == "boot" && is_boot_decided(keeper.context().node, keeper.name())) {
        return fail(ErrorKind::refused,
                    "the role of {} on {} was decided since the machine started", keeper.name(),
                    keeper.node());
    }
    if (keeper.place() == Place::active) {
        return stay_active(keeper, *operation, options);
    }
    Stopwatch watch(keeper.context().clock);
    if (auto opened = keeper.reopen(*operation); !opened) {
        return Failure(opened.error());
    }
    const auto verdict = admit(keeper, options);
    if (!verdict) {
        return Failure(verdict.error());
    }
    // Before the token is asked for, or the active elsewhere is demoted for this.
    if (auto programs = require_engine_programs(keeper.node()); !programs) {
        return Failure(programs.error());
    }
    watch.end_phase("check");
    if (options.dry_run) {
        // Before a demotion elsewhere the active of the session lives, and is to.
        const auto silence = options.after_demote ? Result<void>{} : require_silence(keeper);
        return silence ? Result<Json>(dry_run_answer(keeper, *verdict)) : Failure(silence.error());
    }
    RoleSteps steps = steps_of(keeper, options.cause);
    if (auto ready = steps.before_promote(keeper.waits_for_peer()); !ready) {
        return Failure(ready.error());
    }
    auto done = carry_out(keeper, *operation, options, *verdict, steps, watch);
    if (!done && steps.has_run_hooks()) {
        steps.promote_cancelled();
    }
    return done;
}

Result<Json> agree(VolumeKeeper& keeper, const std::string& node, const ReplicaSummary& theirs) {
    if (theirs.node != node) {
        return refuse_node(theirs.node, keeper.config(), keeper.node());
    }
    const auto operation = keeper.begin(fmt::format("agreement to the promotion on {}", node));
    if (!operation) {
        return Failure(operation.error());
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    const PromotionVerdict verdict = judge_agreement(theirs, (*lease)->summary(), keeper.name());
    if (!verdict.allowed) {
        return Failure(Error{ErrorKind::refused, verdict.reason, verdict.remedy});
    }
    auto given_up = (*lease)->update(give_up_token);
    if (!given_up) {
        return Failure(given_up.error());
    }
    note_boot_decided(keeper.context().node, keeper.name());
    return Json{{"summary", control::encode((*lease)->summary())}};
}

}  // namespace mirror::daemon
