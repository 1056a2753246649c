// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl resolve: the one verb that throws data away because a person said so. It never guesses
// a side, and never goes on without a yes.
#include <optional>
#include <string>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

/// Two disks are compared and one is written: hours, where much has changed.
constexpr std::chrono::hours resolve_deadline{12};

Json request_of(const Options& options) {
    return {{"request", "resolve"},       {"volume", options.volume},
            {"keep", options.keep},       {"dry_run", options.dry_run},
            {"no_undo", options.no_undo}, {"disconnect_clients", options.disconnect_clients}};
}

std::string flags_of(const Options& options) {
    return fmt::format("{}{}", options.no_undo ? " --no-undo" : "",
                       options.disconnect_clients ? " --disconnect-clients" : "");
}

int refuse_without_side(const Session& session) {
    session.world.err << fmt::format(
        "mirrorctl: --keep NODE is required: there is no default for which node's data to keep; "
        "mirrorctl status {0} shows both sides, mirrorctl resolve {0} --keep NODE --dry-run what "
        "would be lost\n",
        session.options.volume);
    return exit_usage;
}

/// Why there is nothing to decide, where that is so: nobody is asked for a yes to it.
std::optional<Error> why_not_diverged(Session& session) {
    const Options& options = session.options;
    const auto status =
        session.client.ask({{"request", "status"}, {"volume", options.volume}}, query_deadline);
    if (!status) {
        return status.error();
    }
    for (const Json& volume : part_field(*status, "volumes")) {
        if (text_field(volume, "state") == "diverged") {
            return std::nullopt;
        }
    }
    Json trial = request_of(options);
    trial["dry_run"] = true;
    const auto plan = session.client.ask(trial, resolve_deadline);
    return plan ? std::nullopt : std::optional(plan.error());
}

int refuse_without_yes(Session& session) {
    const Options& options = session.options;
    if (const auto why = why_not_diverged(session)) {
        return report(*why, options, session.world);
    }
    return report(
        Error{ErrorKind::refused,
              fmt::format("not a terminal: add --yes to confirm that {} keeps its data and the "
                          "other node gives up its own",
                          options.keep),
              fmt::format("mirrorctl resolve {0} --keep {1}{2} --yes; to see what would be lost: "
                          "mirrorctl resolve {0} --keep {1} --dry-run",
                          options.volume, options.keep, flags_of(options))},
        options, session.world);
}

void print_plan(const Json& plan, std::ostream& out) {
    for (const Json& sentence : part_field(plan, "would")) {
        if (sentence.is_string()) {
            out << fmt::format("would: {}\n", printable(sentence.get_ref<const std::string&>()));
        }
    }
    const std::string loss = text_field(plan, "loss");
    out << fmt::format("loss:  {}\n", loss.empty() ? "nothing: both sides are equal" : loss);
    const auto free = count_field(plan, "free_bytes");
    const auto needed = count_field(plan, "undo_bytes");
    if (needed && free) {
        out << fmt::format("undo:  takes {} at most, {} are free\n", format_size(*needed),
                           format_size(*free));
    } else {
        out << "undo:  none is kept (--no-undo)\n";
    }
}

/// What the real run would be refused for as things are now; nothing: it would be done.
std::optional<Error> obstacle_of(const Json& plan) {
    const Json& obstacle = part_field(plan, "obstacle");
    if (!obstacle.is_object()) {
        return std::nullopt;
    }
    return Error{ErrorKind::refused, text_field(obstacle, "message"),
                 text_field(obstacle, "remedy")};
}

/// A dry run ends as the real one would: the price is told, and so is what stands in the way.
int report_plan(const Json& plan, Session& session) {
    World& world = session.world;
    const auto obstacle = obstacle_of(plan);
    if (session.options.json) {
        Json answer = plan;
        if (obstacle) {
            answer["ok"] = false;
            answer["error"] = part_field(plan, "obstacle");
        }
        print_json(answer, world);
    } else {
        print_plan(plan, world.out);
        world.out << "nothing was changed (--dry-run)\n" << std::flush;
    }
    if (obstacle) {
        world.err << fmt::format("mirrorctl: {}\n", printable(obstacle->text()));
    }
    return obstacle ? exit_refused : exit_done;
}

bool was_confirmed(Session& session, const Json& plan) {
    World& world = session.world;
    const std::string loser = text_field(plan, "lose");
    world.out << fmt::format("To continue, type the volume's name ({}) or the losing node's ({}): ",
                             session.options.volume, loser)
              << std::flush;
    std::string typed;
    std::getline(world.in, typed);
    return !typed.empty() && (typed == session.options.volume || typed == loser);
}

int carry_out(Session& session) {
    const Options& options = session.options;
    World& world = session.world;
    const auto answer = session.client.ask(request_of(options), resolve_deadline);
    if (!answer) {
        return report(answer.error(), options, world);
    }
    if (options.dry_run) {
        return report_plan(*answer, session);
    }
    if (options.json) {
        print_json(*answer, world);
        return exit_done;
    }
    world.out << text_field(*answer, "text") << '\n';
    const std::string loss = text_field(*answer, "loss");
    if (!loss.empty()) {
        world.out << fmt::format("loss: {}\n", loss);
    }
    if (const auto seconds = number_field(*answer, "seconds")) {
        world.out << fmt::format("took {}\n", format_seconds(*seconds));
    }
    return exit_done;
}

int ask_and_carry_out(Session& session) {
    Json trial = request_of(session.options);
    trial["dry_run"] = true;
    const auto plan = session.client.ask(trial, resolve_deadline);
    if (!plan) {
        return report(plan.error(), session.options, session.world);
    }
    print_plan(*plan, session.world.out);
    if (const auto obstacle = obstacle_of(*plan)) {
        return report(*obstacle, session.options, session.world);
    }
    if (!was_confirmed(session, *plan)) {
        session.world.err << "mirrorctl: the name does not match: nothing was changed\n";
        return exit_refused;
    }
    return carry_out(session);
}

}  // namespace

int resolve(Session& session) {
    const Options& options = session.options;
    if (options.keep.empty()) {
        return refuse_without_side(session);
    }
    if (options.dry_run || options.yes) {
        return carry_out(session);
    }
    return session.world.can_ask && !options.json ? ask_and_carry_out(session)
                                                  : refuse_without_yes(session);
}

}  // namespace mirror::tools
