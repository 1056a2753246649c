// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl reload: mirrord reads its configuration again, and says of each change whether it is in
// force.
#include <fmt/format.h>

#include "core/base/json.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {

int reload(Session& session) {
    World& world = session.world;
    const Options& options = session.options;
    // A keeper that is replaced waits for what its disk is doing.
    const auto answer =
        session.client.ask({{"request", "reload"}, {"dry_run", options.dry_run}}, change_deadline);
    if (!answer) {
        return report(answer.error(), options, world);
    }
    const Json& failed = part_field(*answer, "failed");
    const int code = failed.is_array() && !failed.empty() ? exit_refused : exit_done;
    if (options.json) {
        print_json(*answer, world);
        return code;
    }
    world.out << text_field(*answer, "text") << '\n';
    const Json& changes = part_field(*answer, "changes");
    for (const Json& change : changes) {
        world.out << fmt::format("  {}\n", text_field(change, "text"));
    }
    for (const Json& each : failed) {
        if (each.is_string()) {
            world.err << fmt::format("mirrorctl: {}\n",
                                     printable(each.get_ref<const std::string&>()));
        }
    }
    if (options.dry_run) {
        world.out << "nothing was changed (--dry-run)\n";
    } else if (!changes.empty()) {
        world.out << "put the same file on the other node, and run mirrorctl reload there\n";
    }
    return code;
}

}  // namespace mirror::tools
