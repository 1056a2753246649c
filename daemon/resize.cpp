// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/resize.hpp"

#include <thread>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "core/meta/meta_file.hpp"
#include "daemon/engine_swap.hpp"
#include "daemon/grow_replica.hpp"
#include "daemon/resize_plan.hpp"
#include "daemon/rto.hpp"

namespace mirror::daemon {
namespace {

/// A disk without a fast way writes all of the zeroes.
constexpr std::chrono::hours backing_deadline{24};
/// Applications wait meanwhile.
constexpr std::chrono::seconds metadata_deadline{15};
constexpr std::chrono::seconds check_deadline{10};
/// After the swap; it only tells whether the answer says "in sync".
constexpr std::chrono::seconds sync_patience{20};

struct Options {
    ResizeWish wish;
    bool disconnect_clients = false;
    bool dry_run = false;
};

struct Sides {
    ResizeSide active;
    ResizeSide standby;
};

Failure refuse(std::string reason, std::string remedy) {
    return Failure(Error{ErrorKind::refused, std::move(reason), std::move(remedy)});
}

Result<Options> parse(const VolumeKeeper& keeper, const Json& request) {
    const auto size = control::optional_uint_field(request, "size_bytes");
    const auto more = control::optional_uint_field(request, "more_bytes");
    const auto disconnect = control::bool_field_or(request, "disconnect_clients", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!size || !more || !disconnect || !dry_run) {
        return Failure(!size         ? size.error()
                       : !more       ? more.error()
                       : !disconnect ? disconnect.error()
                                     : dry_run.error());
    }
    return Options{{keeper.name(), *size, *more}, *disconnect, *dry_run};
}

Result<Json> ask_standby(VolumeKeeper& keeper, const char* step, std::uint64_t from,
                         std::uint64_t to, std::chrono::milliseconds deadline) {
    auto answer = keeper.peers().ask(keeper.peer(),
                                     {{"request", "resize-replica"},
                                      {"volume", keeper.name()},
                                      {"step", step},
                                      {"source", keeper.node()},
                                      {"from_bytes", from},
                                      {"size_bytes", to}},
                                     deadline);
    if (!answer && answer.error().message.find("there is no request") != std::string::npos) {
        return refuse(fmt::format("the mirrordisk on {} is older and can't resize", keeper.peer()),
                      "install the same version of mirrordisk on both nodes");
    }
    return answer;
}

Result<ResizeSide> look_at_standby(VolumeKeeper& keeper) {
    const auto answer = ask_standby(keeper, "check", 0, 0, check_deadline);
    if (!answer) {
        return Failure(
            answer.error().within(fmt::format("a resize of {} needs both nodes", keeper.name())));
    }
    const auto replica = control::uint_field(*answer, "replica_bytes");
    const auto backing = control::uint_field(*answer, "backing_bytes");
    const auto is_device = control::bool_field_or(*answer, "is_device", false);
    if (!replica || !backing || !is_device) {
        return fail(ErrorKind::protocol, "{}: its answer is incomplete", keeper.peer());
    }
    return ResizeSide{keeper.peer(), *replica, *backing, *is_device};
}

Failure not_in_sync(const VolumeKeeper& keeper, const StateWord& state, std::string remedy) {
    return refuse(fmt::format("{} is {}, and a resize needs both replicas in sync: {}",
                              keeper.name(), state.word, state.why),
                  std::move(remedy));
}

/// What can be told without the standby. Answers whether the mirror is in sync.
Result<bool> require_ready(VolumeKeeper& keeper) {
    keeper.engine().forget_status();
    const VolumeFacts facts = keeper.facts();
    const StateWord state = judge_state(facts);
    const std::string status = fmt::format("mirrorctl status {}", keeper.name());
    if (facts.engine.is_null()) {
        return refuse(state.why, status);
    }
    if (state.word == "diverged") {
        return not_in_sync(keeper, state, status);
    }
    const Json peer = facts.engine.value("peer", Json::object());
    const auto verify = peer.find("verify");
    if (verify != peer.end() && verify->is_object() && verify->value("state", "") == "running") {
        return refuse(fmt::format("{} is being compared with {}", keeper.name(), keeper.peer()),
                      fmt::format("wait for it, or mirrorctl verify {} --stop", keeper.name()));
    }
    return state.word == "in-sync";
}

/// What is looked at one after the other may change at once: require_unchanged() looks again, with
/// the operation. Both in sync, so that the new part is equal on both as soon as it is there. Only
/// where the standby is too small for a session, there is no other way to one.
Result<Sides> look(VolumeKeeper& keeper) {
    const auto in_sync = require_ready(keeper);
    if (!in_sync) {
        return Failure(in_sync.error());
    }
    const auto info = inspect_backing(keeper.backing_path());
    const auto ours = keeper.summary();
    if (!info || !ours) {
        return Failure(info ? ours.error() : info.error());
    }
    auto theirs = look_at_standby(keeper);
    if (!theirs) {
        return Failure(theirs.error());
    }
    Sides sides{{keeper.node(), ours->size, info->size, info->is_block_device}, *theirs};
    if (!*in_sync && sides.standby.replica >= sides.active.replica) {
        return not_in_sync(
            keeper, judge_state(keeper.facts()),
            fmt::format("mirrorctl wait {} --for in-sync, then again", keeper.name()));
    }
    return sides;
}

Json plan_answer(const VolumeKeeper& keeper, const Sides& sides, std::uint64_t size) {
    Json would = Json::array();
    for (const ResizeSide* side : {&sides.standby, &sides.active}) {
        if (side->replica < size) {
            would.push_back(fmt::format("grow the replica of {} on {} from {} to {}{}",
                                        keeper.name(), side->node, format_size(side->replica),
                                        format_size(size),
                                        side->is_device ? ", with zeroes in the new part" : ""));
        }
    }
    if (sides.active.replica < size) {
        would.push_back(
            fmt::format("replace the engine on {}: I/O is held for a moment", keeper.node()));
    }
    if (would.empty()) {
        would.push_back(
            fmt::format("nothing: {} has {} already", keeper.name(), format_size(size)));
    }
    return {{"would", would}, {"bytes", nullptr}, {"seconds", nullptr}, {"size_bytes", size}};
}

/// The engine goes on meanwhile with what is before the new part.
Result<void> grow_backings(VolumeKeeper& keeper, const ResizeLock& lock, const Sides& sides,
                           std::uint64_t size) {
    const std::uint64_t from = sides.active.replica;
    if (const auto there = ask_standby(keeper, "backing", from, size, backing_deadline); !there) {
        return Failure(there.error());
    }
    return grow_own_backing(keeper, lock, from, size);
}

Result<void> grow_standby(VolumeKeeper& keeper, const Sides& sides, std::uint64_t size) {
    return ask_standby(keeper, "metadata", sides.active.replica, size, metadata_deadline)
        .map([](const Json&) {});
}

/// What was true before the backings grew, which may have taken hours.
Result<void> require_unchanged(VolumeKeeper& keeper, const Sides& before) {
    if (keeper.place() != Place::active) {
        return fail(ErrorKind::refused, "{} is no longer active on {}", keeper.name(),
                    keeper.node());
    }
    const auto now = look(keeper);
    if (!now) {
        return Failure(now.error());
    }
    if (now->active.replica != before.active.replica ||
        now->standby.replica != before.standby.replica) {
        return fail(ErrorKind::refused, "the size of {} was changed in the meantime",
                    keeper.name());
    }
    return {};
}

bool wait_for_sync(VolumeKeeper& keeper) {
    (void)keeper.engine().ask({{"request", "peer-hint"}}, std::chrono::seconds(1));
    const auto deadline = std::chrono::steady_clock::now() + sync_patience;
    while (std::chrono::steady_clock::now() < deadline && !keeper.peers().is_stopping()) {
        keeper.engine().forget_status();
        const auto status = keeper.engine().status();
        if (status && status->value("mode", "") == "in-sync") {
            return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
}

/// The standby first: it may be the larger one, should this be cut short, or its answer be lost
/// after it was done.
Result<double> grow_replicas(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                             const Sides& sides, std::uint64_t size, bool disconnect_clients) {
    if (sides.active.replica == size) {
        return grow_standby(keeper, sides, size).map([] { return 0.0; });
    }
    return swap_engine(keeper, operation, {disconnect_clients},
                       [&] {
                           return grow_standby(keeper, sides, size).and_then([&] {
                               return grow_meta(keeper.meta_file(), size);
                           });
                       })
        .map([](const SwapOutcome& swapped) { return swapped.pause_seconds(); });
}

Result<double> carry_out(VolumeKeeper& keeper, const Sides& sides, std::uint64_t size,
                         bool disconnect_clients) {
    const auto lock = ResizeLock::take(keeper);
    if (!lock) {
        return Failure(lock.error());
    }
    if (auto grown = grow_backings(keeper, *lock, sides, size); !grown) {
        return Failure(grown.error());
    }
    const auto operation = keeper.begin("resize");
    if (!operation) {
        return Failure(operation.error());
    }
    if (auto unchanged = require_unchanged(keeper, sides); !unchanged) {
        return Failure(unchanged.error());
    }
    return grow_replicas(keeper, *operation, sides, size, disconnect_clients);
}

Result<Json> resize_here(VolumeKeeper& keeper, const Options& options) {
    const Stopwatch watch(keeper.context().clock);
    const auto sides = look(keeper);
    if (!sides) {
        return Failure(sides.error());
    }
    const auto size = choose_size(options.wish, sides->active, sides->standby);
    if (!size) {
        return Failure(size.error());
    }
    if (sides->active.replica != *size) {
        if (auto possible = require_swap(keeper, {options.disconnect_clients}); !possible) {
            return Failure(possible.error());
        }
    }
    if (options.dry_run) {
        return plan_answer(keeper, *sides, *size);
    }
    if (sides->active.replica == *size && sides->standby.replica == *size) {
        return Json{{"text", fmt::format("{} has {} already", keeper.name(), format_size(*size)) +
                                 size_reminder(keeper.config(), *size)},
                    {"size_bytes", *size},
                    {"seconds", watch.seconds()}};
    }
    const auto pause = carry_out(keeper, *sides, *size, options.disconnect_clients);
    if (!pause) {
        keeper.record("resize-failed", Severity::warning,
                      fmt::format("{} was not resized to {}", keeper.name(), format_size(*size)),
                      pause.error().message, pause.error().remedy);
        return Failure(pause.error());
    }
    const std::string text =
        fmt::format("{} has {} now{}", keeper.name(), format_size(*size),
                    *pause > 0 ? fmt::format("; I/O was held for {:.2f} s", *pause) : "");
    keeper.record("resized", Severity::info, text,
                  fmt::format("it had {}", format_size(sides->active.replica)));
    return Json{{"text", text + (wait_for_sync(keeper) ? "" : "; it is not in sync yet") +
                             size_reminder(keeper.config(), *size)},
                {"size_bytes", *size},
                {"pause_seconds", *pause},
                {"seconds", watch.seconds()}};
}

Result<Json> forward(VolumeKeeper& keeper, const Json& request) {
    const auto answer = keeper.peers().ask_status(keeper.peer());
    if (!answer) {
        return Failure(answer.error().within(
            fmt::format("{} is not active on {}", keeper.name(), keeper.node())));
    }
    const auto found = answer->volumes.find(keeper.name());
    if (found == answer->volumes.end() || found->second.role != Role::active) {
        return refuse(fmt::format("{} is not active on any node, and a resize needs a session",
                                  keeper.name()),
                      fmt::format("mirrorctl promote {}", keeper.name()));
    }
    // It may not be active there any more: then the peer refuses.
    return keeper.peers().ask(keeper.peer(), request, backing_deadline);
}

}  // namespace

Result<Json> resize(VolumeKeeper& keeper, const Json& request, bool may_forward) {
    const auto options = parse(keeper, request);
    if (!options) {
        return Failure(options.error());
    }
    if (keeper.place() == Place::active) {
        return resize_here(keeper, *options);
    }
    if (may_forward) {
        return forward(keeper, request);
    }
    return fail(ErrorKind::refused, "{} is not active on {}", keeper.name(), keeper.node());
}

}  // namespace mirror::daemon
