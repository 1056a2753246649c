// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/volume_steps.hpp"

#include "core/base/json.hpp"

namespace mirror::daemon {
namespace {

void record_outcome(VolumeKeeper& keeper, const HookOutcome& outcome, const std::string& folder) {
    const std::string text =
        fmt::format("hook {} ({}) of {} {} {:.1f} s", outcome.name, to_string(outcome.occasion),
                    keeper.name(), outcome.succeeded ? "took" : "failed after", outcome.seconds);
    if (outcome.succeeded) {
        keeper.record("hook-ran", Severity::info, text, outcome.output);
        return;
    }
    keeper.record(
        "hook-failed", Severity::warning, text,
        outcome.output.empty() ? outcome.how : fmt::format("{}: {}", outcome.how, outcome.output),
        fmt::format("see {}/{}", folder, outcome.name));
}

}  // namespace

RoleSteps steps_of(VolumeKeeper& keeper, const std::string& reason) {
    const VolumeConfig& config = keeper.config();
    const std::string& file = keeper.context().used().path;
    const std::string folder = hook_folder(file);
    HookRunner hooks(
        folder,
        {.volume = keeper.name(),
         .node = keeper.node(),
         .peer = keeper.peer(),
         .device = config.device,
         .socket = keeper.paths().socket,
         .mount = config.mount,
         .reason = reason,
         .config = file},
        config.hook_timeout,
        [&keeper, folder](const HookOutcome& outcome) { record_outcome(keeper, outcome, folder); },
        [&keeper](const std::string& problem) {
            keeper.record("hook-failed", Severity::warning,
                          fmt::format("a hook of {} was not run", keeper.name()), problem,
                          "chown root, chmod go-w; mirrorctl check");
        });
    return {config, keeper.node(), system_mounter(), std::move(hooks),
            [&keeper](std::string id, Severity severity, std::string text, std::string cause,
                      std::string remedy) {
                keeper.record(std::move(id), severity, std::move(text), std::move(cause),
                              std::move(remedy));
            }};
}

Json mounted_on(const VolumeConfig& config) {
    if (config.device.empty()) {
        return nullptr;
    }
    const auto points = system_mounter().mount_points(config.device);
    return points.empty() ? Json() : Json(points.front());
}

}  // namespace mirror::daemon
