// SPDX-License-Identifier: BSD-3-Clause
// NbdAttacher: what happens to a device while its engine runs.
#include <algorithm>
#include <utility>

#include "core/base/log.hpp"
#include "core/base/units.hpp"
#include "daemon/device/attacher.hpp"
#include "daemon/device/timing.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds first_retry{200};
constexpr milliseconds longest_retry{5000};

/// So many timeouts without a dead connection: back to the usual one.
constexpr int calm_timeouts = 4;

}  // namespace

std::optional<milliseconds> NbdAttacher::look_after(const std::string& device) {
    Device& here = entry(device);
    const auto due = [&]() -> std::optional<milliseconds> {
        MutexLock lock(here.mutex);
        if (here.volume.empty()) {
            return std::nullopt;
        }
        const SteadyTime now = context_.clock.steady_now();
        const auto until = [&](SteadyTime time) {
            return std::max(std::chrono::ceil<milliseconds>(time - now), milliseconds(0));
        };
        if (here.need != Need::none) {
            return until(here.retry_due);
        }
        if (here.calm_due != SteadyTime{}) {
            return until(here.calm_due);
        }
        return std::nullopt;
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
    seconds timeout{0};
    {
        MutexLock lock(here.mutex);
        volume = here.volume;
        socket = here.socket;
        need = here.need;
        timeout = need == Need::all && !volume.empty()
                      ? request_timeout(context_.config.volumes.at(volume))
                      : here.timeout;
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
               "it was detached behind mirrord's back", fmt::format("mirrorctl attach {}", volume));
        return;
    }
    if (need == Need::none) {
        return calm_down(*found, here);
    }
    const auto renewed = renew(*found, socket, volume, need, timeout);
    if (!renewed) {
        return note_failure(device, here, renewed.error());
    }
    note_mended(device, here, *renewed);
}

void NbdAttacher::note_mended(const std::string& device, Device& here, std::size_t renewed) {
    std::string volume;
    bool was_slow = false;
    {
        MutexLock lock(here.mutex);
        volume = here.volume;
        // A late word about the connections of an engine that was replaced finds none dead.
        was_slow = here.need == Need::some && here.link_died && renewed > 0;
        if (here.need == Need::all) {
            here.timeout = request_timeout(context_.config.volumes.at(volume));
            here.calm_due = SteadyTime{};
        }
        here.need = Need::none;
        here.link_died = false;
        here.backoff = milliseconds(0);
    }
    if (renewed > 0) {
        record(volume, "device-reconnected", Severity::info,
               fmt::format("{} is connected to the engine of {} again", device, volume));
    }
    if (was_slow) {
        allow_more_time(device, here);
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
        record(volume, "device-reconnect-failed", Severity::warning,
               fmt::format("{} has lost its connection to the engine of {}; what uses it waits",
                           device, volume),
               error.message, error.remedy);
    }
}

void NbdAttacher::allow_more_time(const std::string& device, Device& here) {
    std::string volume;
    seconds before{0};
    seconds after{0};
    {
        MutexLock lock(here.mutex);
        volume = here.volume;
        before = here.timeout;
        after = std::max(before, std::min(before * 2, longest_timeout));
        here.timeout = after;
        here.calm_due = context_.clock.steady_now() + after * calm_timeouts;
    }
    const auto found = find(device);
    if (!found || !found->is_ours || before.count() == 0) {
        return;
    }
    if (auto done = driver_.set_timeout(found->index, volume, after); !done) {
        log(LogLevel::warning, "{}: {}", volume, done.error().text());
    }
    record(volume, "device-slow", Severity::warning,
           fmt::format("a request on {} was not answered for {}; the kernel gave up its connection "
                       "and got a new one",
                       device, format_duration(before)),
           fmt::format("it now waits {} before it does so again", format_duration(after)),
           fmt::format("mirrorctl status {} shows the disks; look at the slow one", volume));
}

void NbdAttacher::calm_down(const Found& found, Device& here) {
    std::string volume;
    seconds usual{0};
    {
        MutexLock lock(here.mutex);
        if (here.volume.empty() || here.calm_due == SteadyTime{} ||
            context_.clock.steady_now() < here.calm_due) {
            return;
        }
        volume = here.volume;
        usual = request_timeout(context_.config.volumes.at(volume));
        here.calm_due = SteadyTime{};
        here.timeout = usual;
    }
    if (auto done = driver_.set_timeout(found.index, volume, usual); !done) {
        log(LogLevel::warning, "{}: {}", volume, done.error().text());
    }
}

}  // namespace mirror::daemon
