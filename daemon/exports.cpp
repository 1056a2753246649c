// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/exports.hpp"

#include "core/base/json.hpp"
#include "core/control/mailbox.hpp"

namespace mirror::daemon {

std::vector<std::string> Exports::list(const nbd::Client& client) {
    const auto control_group = requests_.context().control_group;
    std::vector<std::string> names;
    if (mailbox_places(who_is(client, control_group)).any()) {
        names.emplace_back(control::mailbox_export);
    }
    // Session exports are not shown: their names are the sessions' tokens.
    for (const auto& [name, keeper] : keepers_) {
        const Who who = who_is(client, control_group, keeper->peer());
        if (replica_places(who).any() && keeper->place() == Place::standby) {
            names.push_back(name + "/changes");
        }
    }
    return names;
}

Result<std::unique_ptr<nbd::Export>> Exports::open(const std::string& name,
                                                   const nbd::Client& client,
                                                   std::function<void()> shutdown) {
    const Context& context = requests_.context();
    if (!mailbox_places(who_is(client, context.control_group)).any()) {
        return refuse_user(client, context.used());
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
    if (auto allowed = require_replica_reader(**keeper, client); !allowed) {
        return Failure(allowed.error());
    }
    const auto lease = (*keeper)->replica();
    if (!lease) {
        return Failure(lease.error());
    }
    return (*lease)->open_export(name.substr(end), std::move(shutdown));
}

Result<void> Exports::require_replica_reader(const VolumeKeeper& keeper,
                                             const nbd::Client& client) {
    const Who who = who_is(client, requests_.context().control_group, keeper.peer());
    if (replica_places(who).any()) {
        return {};
    }
    if (is_local(who)) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("only root and the peer node may read the disk of {}", keeper.name()),
                  "", /*os_error=*/0, Ground::who});
    }
    Failure refusal = refuse_node(describe(client), keeper.config(), keeper.node());
    requests_.refusals().note(client, refusal.value());
    return refusal;
}

}  // namespace mirror::daemon
