// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl resolve: the one verb that throws data away because a person said so. It never guesses
// a side, and never goes on without a yes.
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

int refuse_without_yes(const Session& session) {
    const Options& options = session.options;
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
    if (options.json) {
        print_json(*answer, world);
        return exit_done;
    }
    if (options.dry_run) {
        print_plan(*answer, world.out);
        world.out << "nothing was changed (--dry-run)\n";
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
