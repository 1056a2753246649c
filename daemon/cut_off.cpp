// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/cut_off.hpp"

#include "daemon/client_count.hpp"

namespace mirror::daemon {

Result<void> CutOff::require() const {
    if (!is_withheld_) {
        return {};
    }
    const std::string& device = keeper_.config().device;
    // The device is a client too; whether anybody uses it is found out when it is detached.
    const bool attached = !device.empty() && keeper_.devices().is_attached(device);
    const std::uint64_t clients = attached ? 0 : count_clients_who_stay(keeper_);
    if (clients == 0) {
        return {};
    }
    return refuse_over_network(
        fmt::format("{} serves {} to {} client connection{}, and disconnects clients only for its "
                    "own users",
                    keeper_.node(), keeper_.name(), clients, clients == 1 ? "" : "s"),
        keeper_.config(), keeper_.node(), command_, /*would_full_do=*/true);
}

Error CutOff::explain(Error error) const {
    if (is_withheld_) {
        error.remedy += fmt::format(
            "{}--disconnect-clients was ignored, because the request came over the network: on {}: "
            "mirrorctl {}",
            error.remedy.empty() ? "" : "; ", keeper_.node(), command_);
    }
    return error;
}

}  // namespace mirror::daemon
