// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/restart_engine.hpp"

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "daemon/engine_swap.hpp"

namespace mirror::daemon {
namespace {

std::string pause_words(const VolumeKeeper& keeper, const SwapOutcome& outcome) {
    if (outcome.stall) {
        return fmt::format("I/O on {} was held for {}", keeper.config().device,
                           format_duration(*outcome.stall));
    }
    return fmt::format("the volume was not served for {}", format_duration(outcome.unserved));
}

}  // namespace

Result<Json> restart_engine(VolumeKeeper& keeper, const RestartOptions& options) {
    const auto operation = keeper.begin(VolumeKeeper::restart_name);
    if (!operation) {
        return Failure(operation.error());
    }
    if (auto possible = require_swap(keeper, {options.disconnect_clients}); !possible) {
        return Failure(possible.error());
    }
    if (options.dry_run) {
        return Json{
            {"would", Json::array({fmt::format("replace the engine of {} on {}; I/O waits in the "
                                               "meantime, usually for one to three seconds",
                                               keeper.name(), keeper.node())})},
            {"bytes", nullptr},
            {"seconds", nullptr}};
    }
    const auto outcome = swap_engine(keeper, *operation, {options.disconnect_clients},
                                     [] { return Result<void>{}; });
    if (!outcome) {
        return Failure(outcome.error());
    }
    const std::string pause = pause_words(keeper, *outcome);
    keeper.record(
        "engine-replaced", Severity::info,
        fmt::format("the engine of {} on {} was replaced; {}", keeper.name(), keeper.node(), pause),
        "restart-engine was requested");
    return Json{
        {"text", fmt::format("{} has a new engine on {}: {}", keeper.name(), keeper.node(), pause)},
        {"pause_seconds", outcome->pause_seconds()},
        {"phases", outcome->phases},
        {"seconds", outcome->seconds}};
}

}  // namespace mirror::daemon
