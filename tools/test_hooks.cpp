// SPDX-License-Identifier: BSD-3-Clause
#include <chrono>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

/// Programs are run one after the other, and earlier events come first.
constexpr std::chrono::minutes test_deadline{10};

void print_outcome(const Json& hook, World& world) {
    const bool is_good = bool_field(hook, "succeeded").value_or(false);
    const std::string output = text_field(hook, "output");
    world.out << fmt::format(
        "{}: {} after {}{}{}\n", text_field(hook, "name"),
        world.terminal.paint(is_good ? Style::good : Style::bad, text_field(hook, "how")),
        format_seconds(number_field(hook, "seconds").value_or(0)), output.empty() ? "" : ": ",
        output);
}

}  // namespace

int test_hooks(Session& session) {
    World& world = session.world;
    Json request{{"request", "test-event-hooks"}};
    if (!session.options.volume.empty()) {
        request["volume"] = session.options.volume;
    }
    const auto answer = session.client.ask(request, test_deadline);
    if (!answer) {
        return report(answer.error(), session.options, world);
    }
    const Json& hooks = part_field(*answer, "hooks");
    const Json& problems = part_field(*answer, "problems");
    bool all_good = !hooks.empty() && problems.empty();
    for (const Json& hook : hooks) {
        all_good = all_good && bool_field(hook, "succeeded").value_or(false);
    }
    if (session.options.json) {
        print_json(*answer, world);
        return all_good ? exit_done : exit_refused;
    }
    for (const Json& hook : hooks) {
        print_outcome(hook, world);
    }
    for (const Json& problem : problems) {
        if (problem.is_string()) {
            world.out << fmt::format("problem: {}\n",
                                     printable(problem.get_ref<const std::string&>()));
        }
    }
    if (hooks.empty()) {
        world.out << fmt::format(
            "no program in {} is run; it must be executable: mirrord(8), "
            "EVENT HOOKS\n",
            text_field(*answer, "folder"));
    }
    return all_good ? exit_done : exit_refused;
}

}  // namespace mirror::tools
