// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/client_count.hpp"

#include <algorithm>
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
    const auto status = keeper.engine().status();
    return status ? control::uint_field(*status, "clients").value_or(0) : 0;
}

std::uint64_t besides_device(VolumeKeeper& keeper, std::uint64_t clients) {
    const std::string& device = keeper.config().device;
    const std::uint64_t ours = device.empty() ? 0 : keeper.devices().connections(device);
    return clients - std::min(clients, ours);
}

std::uint64_t count_clients_who_stay(VolumeKeeper& keeper) {
    constexpr std::chrono::milliseconds patience{1000};
    constexpr std::chrono::milliseconds pause{20};
    const Clock& clock = keeper.context().clock;
    const SteadyTime give_up = clock.steady_now() + patience;
    std::uint64_t clients = besides_device(keeper, count_clients(keeper));
    while (clients != 0 && clock.steady_now() < give_up) {
        std::this_thread::sleep_for(pause);
        clients = besides_device(keeper, count_clients(keeper));
    }
    return clients;
}

}  // namespace mirror::daemon
