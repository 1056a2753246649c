// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/cut_off.hpp"

#include <chrono>
#include <thread>

#include "core/base/json.hpp"
#include "core/control/messages.hpp"

namespace mirror::daemon {

std::uint64_t count_clients(VolumeKeeper& keeper) {
    if (keeper.place() != Place::active) {
        return 0;
    }
    keeper.engine().forget_status();
    const Json engine = keeper.facts().engine;
    const auto clients = control::uint_field(engine, "clients");
    return clients.value_or(0);
}

namespace {

/// One that has just gone is counted for a moment.
std::uint64_t count_those_who_stay(VolumeKeeper& keeper) {
    constexpr std::chrono::milliseconds patience{1000};
    constexpr std::chrono::milliseconds pause{20};
    const Clock& clock = keeper.context().clock;
    const SteadyTime give_up = clock.steady_now() + patience;
    std::uint64_t clients = count_clients(keeper);
    while (clients != 0 && clock.steady_now() < give_up) {
        std::this_thread::sleep_for(pause);
        clients = count_clients(keeper);
    }
    return clients;
}

}  // namespace

Result<void> CutOff::require() const {
    if (!is_withheld_) {
        return {};
    }
    const std::string& device = keeper_.config().device;
    // The device is a client too; whether anybody uses it is found out when it is detached.
    const bool attached = !device.empty() && keeper_.devices().is_attached(device);
    const std::uint64_t clients = attached ? 0 : count_those_who_stay(keeper_);
    if (clients == 0) {
        return {};
    }
    return refuse_over_network(
        fmt::format("{} serves {} to {} client connection{}, and cuts clients off for its own "
                    "users only",
                    keeper_.node(), keeper_.name(), clients, clients == 1 ? "" : "s"),
        keeper_.config(), keeper_.node(), command_, /*would_full_do=*/true);
}

Error CutOff::explain(Error error) const {
    if (is_withheld_) {
        error.remedy += fmt::format(
            "{}--disconnect-clients was not obeyed, since it was asked for over the network: on "
            "{}: mirrorctl {}",
            error.remedy.empty() ? "" : "; ", keeper_.node(), command_);
    }
    return error;
}

}  // namespace mirror::daemon
