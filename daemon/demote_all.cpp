// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/demote_all.hpp"

#include <vector>

#include "core/base/json.hpp"
#include "daemon/rto.hpp"

namespace mirror::daemon {
namespace {

struct Outcome {
    std::vector<std::string> demoted;
    Json would = Json::array();
    std::vector<std::string> errors;
    std::string remedy;  ///< of the first error
    ErrorKind kind = ErrorKind::refused;
};

void demote_one(VolumeKeeper& keeper, const DemoteOptions& options, Outcome& outcome) {
    const auto done = demote(keeper, options);
    if (!done) {
        if (outcome.errors.empty()) {
            outcome.remedy = done.error().remedy;
            outcome.kind = done.error().kind;
        }
        outcome.errors.push_back(fmt::format("{}: {}", keeper.name(), done.error().message));
        return;
    }
    outcome.demoted.push_back(keeper.name());
    if (const auto found = done->find("would"); found != done->end()) {
        outcome.would.insert(outcome.would.end(), found->begin(), found->end());
    }
}

std::string text_of(const Outcome& outcome, const std::string& node) {
    return outcome.demoted.empty()
               ? fmt::format("nothing is active on {}", node)
               : fmt::format("standby on {}: {}", node, fmt::join(outcome.demoted, ", "));
}

}  // namespace

Result<Json> demote_all(const Keepers& keepers, const Context& context,
                        const DemoteOptions& options) {
    const Stopwatch watch(context.clock);
    Outcome outcome;
    for (const auto& [name, keeper] : keepers) {
        // Demoting the others takes its time: each demote looks at its place again, under its
        // operation. One that is being promoted is not ready to be asked: its demotion says that it
        // is busy.
        if (keeper->place() == Place::active || keeper->place() == Place::changing ||
            keeper->waits_for_peer()) {
            demote_one(*keeper, options, outcome);
        }
    }
    if (!outcome.errors.empty()) {
        return Failure(Error{
            outcome.kind,
            fmt::format(
                "still active on {}: {}{}", context.node.name, fmt::join(outcome.errors, "; "),
                outcome.demoted.empty() ? ""
                                        : fmt::format("; {}", text_of(outcome, context.node.name))),
            outcome.remedy});
    }
    if (options.dry_run) {
        if (outcome.would.empty()) {
            outcome.would.push_back("nothing: " + text_of(outcome, context.node.name));
        }
        return Json{{"would", outcome.would}, {"bytes", nullptr}, {"seconds", nullptr}};
    }
    return Json{{"text", text_of(outcome, context.node.name)},
                {"volumes", outcome.demoted},
                {"seconds", watch.seconds()}};
}

}  // namespace mirror::daemon
