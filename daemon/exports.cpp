// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/exports.hpp"

#include "core/control/mailbox.hpp"

namespace mirror::daemon {

std::vector<std::string> Exports::list(const nbd::Client&) {
    // Session exports are not shown: their names are the sessions' tokens.
    std::vector<std::string> names{control::mailbox_export};
    for (const auto& [name, keeper] : keepers_) {
        if (keeper->place() == Place::standby) {
            names.push_back(name + "/changes");
        }
    }
    return names;
}

Result<std::unique_ptr<nbd::Export>> Exports::open(const std::string& name,
                                                   const nbd::Client& client,
                                                   std::function<void()> shutdown) {
    // Over TCP there is no uid; the table of requests decides what a peer may ask.
    if (client.uid && !is_local_admin(client)) {
        return fail(ErrorKind::refused, "only root may use mirrord's socket (you are uid {})",
                    *client.uid);
    }
    if (name == control::mailbox_export) {
        return control::make_mailbox_export(
            [this](const Json& request, const nbd::Client& asking) {
                return requests_.handle(request, asking);
            },
            client);
    }
    const std::size_t end = name.find_first_of("@/");
    if (end == std::string::npos) {
        return Failure(Error{ErrorKind::not_found, fmt::format("there is no export '{}'", name),
                             "a volume is served where it is active, at RUN_DIR/VOLUME.sock"});
    }
    const auto keeper = requests_.keeper(name.substr(0, end));
    if (!keeper) {
        return Failure(keeper.error());
    }
    const auto lease = (*keeper)->replica();
    if (!lease) {
        return Failure(lease.error());
    }
    return (*lease)->open_export(name.substr(end), std::move(shutdown));
}

}  // namespace mirror::daemon
