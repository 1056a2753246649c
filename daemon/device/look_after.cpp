// SPDX-License-Identifier: BSD-3-Clause
// NbdAttacher: what happens to a device while its engine runs.
#include <algorithm>
#include <utility>

#include "daemon/device/attacher.hpp"
#include "daemon/device/timing.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds longest_retry{5000};

}  // namespace

std::optional<milliseconds> NbdAttacher::look_after(const std::string& device) {
    Device& here = entry(device);
    const auto due = [&]() -> std::optional<milliseconds> {
        MutexLock lock(here.mutex);
        if (here.need == Need::none) {
            return std::nullopt;
        }
        return std::max(
            std::chrono::ceil<milliseconds>(here.retry_due - context_.clock.steady_now()),
            milliseconds(0));
    };
    const auto before = due();
    if (!before || before->count() > 0) {
        return before;
    }
    mend(device, here);
    return due();
}

void NbdAttacher::mend(const std::string& device, Device& here) {
    MutexLock turn(here.turn);
    std::string volume;
    std::string socket;
    Need need = Need::none;
    {
        MutexLock lock(here.mutex);
        volume = here.volume;
        socket = here.socket;
        need = here.need;
        here.came_up = Need::none;
    }
    if (volume.empty()) {
        return;  // detached a moment ago
    }
    const auto found = find(device);
    if (!found || !found->is_ours) {
        {
            MutexLock lock(here.mutex);
            here.volume.clear();
            here.need = Need::none;
        }
        record(volume, "device-lost", Severity::error,
               fmt::format("{} is no longer attached to {}", device, volume),
               "it was detached by another program", fmt::format("mirrorctl attach {}", volume));
        return;
    }
    const auto renewed = renew(*found, socket, volume, need);
    if (!renewed) {
        return note_failure(device, here, renewed.error());
    }
    note_mended(device, here, *renewed);
}

void NbdAttacher::note_mended(const std::string& device, Device& here, std::size_t renewed) {
    std::string volume;
    {
        MutexLock lock(here.mutex);
        volume = here.volume;
        here.mended_at = context_.clock.steady_now();
        end_turn(here);
    }
    // A late word about the connection of an engine that was replaced finds none dead.
    if (renewed > 0) {
        record(volume, "device-reconnected", Severity::info,
               fmt::format("{} is connected to the engine of {} again", device, volume));
    }
}

void NbdAttacher::note_failure(const std::string& device, Device& here, const Error& error) {
    std::string volume;
    bool is_news = false;
    {
        MutexLock lock(here.mutex);
        volume = here.volume;
        // The first failure may be the first sign of the engine's death; that has its own events.
        is_news = here.backoff == first_retry;
        here.backoff = std::clamp(here.backoff * 2, first_retry, longest_retry);
        here.retry_due = context_.clock.steady_now() + here.backoff;
    }
    if (is_news) {
        record(
            volume, "device-reconnect-failed", Severity::warning,
            fmt::format(
                "{} has lost its connection to the engine of {}; programs that use it are waiting",
                device, volume),
            error.message, error.remedy);
    }
}

}  // namespace mirror::daemon
