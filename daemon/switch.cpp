// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/switch.hpp"

#include "core/base/json.hpp"
#include "daemon/demote.hpp"
#include "daemon/peer_answer.hpp"
#include "daemon/promote.hpp"
#include "daemon/rto.hpp"

namespace mirror::daemon {
namespace {

/// Demote and promote have deadlines of their own inside, hooks too; a peer that falls silent is
/// found out earlier.
constexpr std::chrono::minutes step_deadline{30};

Result<Json> promote_on(VolumeKeeper& keeper, const std::string& node, bool only_check) {
    if (node == keeper.node()) {
        return promote(keeper,
                       {.dry_run = only_check, .after_demote = only_check, .cause = "switch"});
    }
    return keeper.peers().ask(node,
                              {{"request", "promote"},
                               {"volume", keeper.name()},
                               {"cause", "switch"},
                               {"dry_run", only_check},
                               {"after_demote", only_check}},
                              step_deadline);
}

Result<Json> demote_on(VolumeKeeper& keeper, const std::string& node,
                       const SwitchOptions& options) {
    if (node == keeper.node()) {
        return demote(keeper, {options.disconnect_clients, options.dry_run, "switch"});
    }
    return keeper.peers().ask(node,
                              {{"request", "demote"},
                               {"volume", keeper.name()},
                               {"cause", "switch"},
                               {"disconnect_clients", options.disconnect_clients},
                               {"dry_run", options.dry_run}},
                              step_deadline);
}

/// The role there after a step whose answer was lost: it may have been carried out. Nothing where
/// that can't be found out.
std::optional<Role> role_on(VolumeKeeper& keeper, const std::string& node) {
    if (node == keeper.node()) {
        return keeper.place() == Place::active ? Role::active : Role::standby;
    }
    const auto answer = keeper.peers().ask_status(node);
    if (!answer) {
        return std::nullopt;
    }
    const auto found = answer->volumes.find(keeper.name());
    return found == answer->volumes.end() ? std::nullopt : std::optional(found->second.role);
}

bool was_done(VolumeKeeper& keeper, const Error& error, const std::string& node, Role role) {
    return !was_reached(error) && role_on(keeper, node) == role;
}

Error demotion_unclear(const VolumeKeeper& keeper, const std::string& node, Error error) {
    error.message = fmt::format("whether {} was demoted on {} is not known: {}", keeper.name(),
                                node, error.message);
    error.remedy =
        fmt::format("mirrorctl status {0}; if it is not active on any node: mirrorctl promote {0}",
                    keeper.name());
    return error;
}

/// Which node is active; `refused` when none is, or the peer can't be asked. It holds until another
/// one changes the role, as nothing is held meanwhile: demote() and promote() look again, each
/// under the operation of its node.
Result<std::string> find_active(VolumeKeeper& keeper) {
    const auto answer = keeper.peers().ask_status(keeper.peer());
    if (!answer) {
        const Error& error = answer.error();
        return Failure(Error{
            error.kind,
            fmt::format("{} can't be switched: {}", keeper.name(),
                        why_not_seen(keeper.peer(), error)),
            was_reached(error) ? error.remedy
                               : fmt::format("make {} reachable; if it is gone for good, mirrorctl "
                                             "promote {} on the node that is left",
                                             keeper.peer(), keeper.name())});
    }
    if (keeper.place() == Place::active) {
        return keeper.node();
    }
    const auto found = answer->volumes.find(keeper.name());
    if (found != answer->volumes.end() && found->second.role == Role::active) {
        return keeper.peer();
    }
    return Failure(Error{
        ErrorKind::refused,
        fmt::format("{} is not active on any node, so there is nothing to switch", keeper.name()),
        fmt::format("mirrorctl promote {}", keeper.name())});
}

Result<std::string> find_target(const VolumeKeeper& keeper, const std::string& active,
                                const std::string& wanted) {
    const std::string other = active == keeper.node() ? keeper.peer() : keeper.node();
    if (wanted.empty() || wanted == other || wanted == active) {
        return wanted.empty() ? other : wanted;
    }
    return fail(ErrorKind::invalid, "{} has no replica of {}: its nodes are {} and {}", wanted,
                keeper.name(), active, other);
}

Json dry_run_answer(const VolumeKeeper& keeper, const std::string& active,
                    const std::string& target) {
    return {{"would", Json::array({fmt::format("demote {} on {}", keeper.name(), active),
                                   fmt::format("promote {} on {}", keeper.name(), target)})},
            {"bytes", nullptr},
            {"seconds", nullptr}};
}

/// The target would not: the volume goes on where it was, unless the target is active after all,
/// which promote() asks it.
Error go_back(VolumeKeeper& keeper, const std::string& active, const std::string& target,
              const Error& cause) {
    const auto restored = promote_on(keeper, active, false);
    Error error{
        ErrorKind::refused,
        restored ? fmt::format("{} could not be promoted on {}, so it is active on {} "
                               "again: {}",
                               keeper.name(), target, active, cause.message)
                 : fmt::format(
                       "{} could not be promoted on {} ({}), nor again on {} ({}): "
                       "it is active on {}",
                       keeper.name(), target, cause.message, active, restored.error().message,
                       was_reached(cause) ? "no node" : fmt::format("no node, or on {}", target)),
        cause.remedy};
    keeper.record("switch-failed", Severity::error, error.message, cause.message, error.remedy);
    return error;
}

}  // namespace

Result<Json> switch_roles(VolumeKeeper& keeper, const SwitchOptions& options) {
    Stopwatch watch(keeper.context().clock);
    const auto active = find_active(keeper);
    if (!active) {
        return Failure(active.error());
    }
    const auto target = find_target(keeper, *active, options.to);
    if (!target) {
        return Failure(target.error());
    }
    if (*target == *active) {
        const std::string text = fmt::format("{} is active on {} already", keeper.name(), *target);
        return options.dry_run ? Json{{"would", Json::array({"nothing: " + text})},
                                      {"bytes", nullptr},
                                      {"seconds", nullptr}}
                               : Json{{"text", text}, {"phases", Json::object()}, {"seconds", 0}};
    }
    if (const auto possible = promote_on(keeper, *target, true); !possible) {
        return Failure(possible.error());
    }
    watch.end_phase("check");
    const auto demoted = demote_on(keeper, *active, options);
    if (!demoted && (options.dry_run || was_reached(demoted.error()))) {
        return Failure(demoted.error());
    }
    if (!demoted && !was_done(keeper, demoted.error(), *active, Role::standby)) {
        return Failure(demotion_unclear(keeper, *active, demoted.error()));
    }
    if (options.dry_run) {
        return dry_run_answer(keeper, *active, *target);
    }
    watch.end_phase("demote");
    const auto promoted = promote_on(keeper, *target, false);
    if (!promoted && !was_done(keeper, promoted.error(), *target, Role::active)) {
        return Failure(go_back(keeper, *active, *target, promoted.error()));
    }
    watch.end_phase("promote");
    const std::string text = fmt::format("{} was switched from {} to {} in {:.2f} s", keeper.name(),
                                         *active, *target, watch.seconds());
    keeper.record("switch-done", Severity::info, text);
    return Json{{"text", text}, {"phases", watch.phases()}, {"seconds", watch.seconds()}};
}

}  // namespace mirror::daemon
