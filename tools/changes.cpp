// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

/// A disk without a fast way to zero its new part writes it all.
constexpr std::chrono::hours resize_deadline{25};

Json request_of(const Session& session) {
    const Options& options = session.options;
    return {{"request", options.verb}, {"volume", options.volume}, {"dry_run", options.dry_run}};
}

std::string cost_words(const Json& answer) {
    const auto bytes = count_field(answer, "bytes");
    const auto seconds = number_field(answer, "seconds");
    std::string text;
    if (bytes) {
        text += *bytes == 0 ? std::string("nothing to transfer")
                            : fmt::format("{} to transfer", format_size(*bytes));
    }
    if (seconds) {
        text += fmt::format("{}about {}", text.empty() ? "" : ", ", format_seconds(*seconds));
    }
    return text;
}

void print_plan(const Json& answer, std::ostream& out) {
    for (const Json& sentence : part_field(answer, "would")) {
        if (sentence.is_string()) {
            out << fmt::format("would: {}\n", printable(sentence.get_ref<const std::string&>()));
        }
    }
    const std::string loss = text_field(answer, "loss");
    if (!loss.empty()) {
        out << fmt::format("loss:  {}\n", loss);
    }
    const std::string cost = cost_words(answer);
    if (!cost.empty()) {
        out << fmt::format("cost:  {}\n", cost);
    }
}

std::string phase_words(const Json& phases) {
    std::string text;
    if (!phases.is_object()) {
        return text;
    }
    for (const auto& [name, seconds] : phases.items()) {
        if (seconds.is_number()) {
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ", printable(name),
                                format_seconds(seconds.get<double>()));
        }
    }
    return text;
}

void print_done(const Json& answer, std::ostream& out) {
    out << text_field(answer, "text") << '\n';
    const std::string loss = text_field(answer, "loss");
    if (!loss.empty()) {
        out << fmt::format("loss: {}\n", loss);
    }
    if (const auto seconds = number_field(answer, "seconds")) {
        const std::string phases = phase_words(part_field(answer, "phases"));
        out << fmt::format("took {}{}\n", format_seconds(*seconds),
                           phases.empty() ? "" : fmt::format(" ({})", phases));
    }
}

int run_change(Session& session, const Json& request,
               std::chrono::milliseconds deadline = change_deadline) {
    const Options& options = session.options;
    World& world = session.world;
    const auto answer = session.client.ask(request, deadline);
    if (!answer) {
        return report(answer.error(), options, world);
    }
    if (options.json) {
        print_json(*answer, world);
    } else if (options.dry_run) {
        print_plan(*answer, world.out);
        world.out << "nothing was changed (--dry-run)\n";
    } else {
        print_done(*answer, world.out);
    }
    return exit_done;
}

/// The command that does it without a question.
std::string command_with_yes(const Options& options) {
    std::string command = fmt::format("mirrorctl {} {}", options.verb, options.volume);
    const std::array flags{std::pair{options.force, "--force"},
                           std::pair{options.fenced, "--fenced"},
                           std::pair{options.overwrite_peer, "--overwrite-peer"},
                           std::pair{options.from_empty, "--from-empty"},
                           std::pair{options.accept_mode, "--accept-mode"},
                           std::pair{options.local_only, "--local-only"},
                           std::pair{options.replace, "--replace"}};
    for (const auto& [is_given, flag] : flags) {
        command += is_given ? fmt::format(" {}", flag) : std::string();
    }
    return command + " --yes";
}

int refuse_without_yes(Session& session, const std::string& loss) {
    return report(
        Error{ErrorKind::refused,
              fmt::format("not confirmed, and there is no terminal to ask at: data may be lost{}{}",
                          loss.empty() ? "" : ": ", loss),
              command_with_yes(session.options)},
        session.options, session.world);
}

bool was_confirmed(Session& session) {
    World& world = session.world;
    world.out << fmt::format("Type the volume's name ({}) to continue: ", session.options.volume)
              << std::flush;
    std::string typed;
    std::getline(world.in, typed);
    return typed == session.options.volume;
}

/// For every verb that may lose data: shows what the request would do, asks, and runs it when the
/// answer is yes. Where there is nobody to ask, as in a pipe, --yes must have said it before.
int run_with_consent(Session& session, const Json& request) {
    const Options& options = session.options;
    if (options.yes || options.dry_run) {
        return run_change(session, request);
    }
    Json trial = request;
    trial["dry_run"] = true;
    const auto plan = session.client.ask(trial, change_deadline);
    if (!plan) {
        return report(plan.error(), session.options, session.world);
    }
    const Json& loss = part_field(*plan, "loss");
    const bool is_harmless = loss.is_string() && loss.get_ref<const std::string&>().empty();
    if (is_harmless) {
        return run_change(session, request);
    }
    if (!session.world.can_ask || options.json) {
        return refuse_without_yes(session, text_field(*plan, "loss"));
    }
    print_plan(*plan, session.world.out);
    if (!was_confirmed(session)) {
        session.world.err << "mirrorctl: the name does not match: nothing was changed\n";
        return exit_refused;
    }
    return run_change(session, request);
}

}  // namespace

int create(Session& session) {
    const Options& options = session.options;
    Json request = request_of(session);
    request["overwrite_peer"] = options.overwrite_peer;
    request["from_empty"] = options.from_empty;
    request["accept_mode"] = options.accept_mode;
    request["local_only"] = options.local_only;
    request["replace"] = options.replace;
    const bool overwrites = options.overwrite_peer || options.replace;
    return overwrites ? run_with_consent(session, request) : run_change(session, request);
}

int promote(Session& session) {
    const Options& options = session.options;
    Json request = request_of(session);
    request["force"] = options.force;
    request["fenced"] = options.fenced;
    return options.force ? run_with_consent(session, request) : run_change(session, request);
}

int demote(Session& session) {
    const Options& options = session.options;
    if (options.all == !options.volume.empty()) {
        session.world.err << fmt::format(
            "mirrorctl: {}\n",
            options.all ? "name a volume or take --all, not both" : "name a volume, or take --all");
        return exit_usage;
    }
    Json request = request_of(session);
    if (options.all) {
        request = {{"request", "demote-all"}, {"dry_run", options.dry_run}};
    }
    request["disconnect_clients"] = session.options.disconnect_clients;
    return run_change(session, request);
}

int switch_roles(Session& session) {
    Json request = request_of(session);
    request["disconnect_clients"] = session.options.disconnect_clients;
    if (!session.options.to.empty()) {
        request["to"] = session.options.to;
    }
    return run_change(session, request);
}

int connect(Session& session) {
    return run_change(session, request_of(session));
}

int disconnect(Session& session) {
    return run_change(session, request_of(session));
}

int resync(Session& session) {
    Json request = request_of(session);
    request["full"] = session.options.full;
    const int code = run_change(session, request);
    const bool waits = session.options.wait && !session.options.dry_run;
    return code == exit_done && waits ? wait_for_resync(session) : code;
}

int resize(Session& session) {
    Json request = request_of(session);
    request["disconnect_clients"] = session.options.disconnect_clients;
    const std::string& typed = session.options.size;
    const bool is_more = typed.starts_with('+');
    if (!typed.empty()) {
        const auto bytes = parse_size(std::string_view(typed).substr(is_more ? 1 : 0));
        if (!bytes) {
            session.world.err << fmt::format("mirrorctl: {}\n", bytes.error().text());
            return exit_usage;
        }
        request[is_more ? "more_bytes" : "size_bytes"] = *bytes;
    }
    return run_change(session, request, resize_deadline);
}

int attach(Session& session) {
    return run_change(session, request_of(session));
}

int detach(Session& session) {
    return run_change(session, request_of(session));
}

int restart_engine(Session& session) {
    Json request = request_of(session);
    request["disconnect_clients"] = session.options.disconnect_clients;
    return run_change(session, request);
}

}  // namespace mirror::tools
