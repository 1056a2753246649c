// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/unsupervised.hpp"

#include "daemon/keepers.hpp"

namespace mirror::daemon {
namespace {

Unsupervised describe(const Context& context, RunningEngine engine) {
    const bool is_renamed = engine.node != context.node.name;
    const std::string reason =
        is_renamed ? fmt::format("it was started for node {}, and this mirrord is node {}",
                                 engine.node, context.node.name)
                   : fmt::format("mirrord manages no volume {} here", engine.volume);
    const std::string back =
        is_renamed ? fmt::format("name the node {} again", engine.node)
                   : fmt::format("put volume {} back in {}", engine.volume, context.used().path);
    return {engine,
            fmt::format("an engine serves {} at {} (pid {}) and mirrord does not manage it: {}",
                        engine.volume, engine.socket, engine.pid, reason),
            fmt::format("{0} and restart mirrord; or stop what uses {1}, and kill {2}", back,
                        engine.socket, engine.pid)};
}

}  // namespace

std::vector<Unsupervised> unsupervised(const Context& context, const Keepers& keepers) {
    std::vector<Unsupervised> found;
    for (RunningEngine& engine : find_engines()) {
        const auto keeper = keepers.find(engine.volume);
        const bool is_kept = keeper != keepers.end() && engine.node == context.node.name &&
                             keeper->second->paths().socket == engine.socket;
        // In another RUN_DIR it is another mirrord's, for all that can be seen.
        if (!is_kept && engine.run_dir() == context.node.run_dir) {
            found.push_back(describe(context, std::move(engine)));
        }
    }
    return found;
}

}  // namespace mirror::daemon
