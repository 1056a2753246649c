// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/device/attacher.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "core/base/log.hpp"
#include "core/base/units.hpp"
#include "daemon/device/timing.hpp"
#include "daemon/engine_process.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds step{20};
/// How long udev may look at a device that has just changed, before it counts as in use.
constexpr milliseconds users_patience{1500};
/// A device is free a moment after its last user has gone.
constexpr milliseconds release_patience{5000};
/// The kernel notices the end of an engine's sockets in a worker of its own.
constexpr milliseconds notice_patience{5000};

/// Asks again and again; false when it is still not so at the deadline.
template <typename Condition>
bool wait_until(milliseconds patience, Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        std::this_thread::sleep_for(step);
    }
    return true;
}

NbdDriver::Setup setup_of(const std::string& volume, const EngineConnections& engine) {
    return {.backend = volume, .size = engine.size, .flags = engine.flags};
}

}  // namespace

NbdAttacher::NbdAttacher(const Context& context, NbdDriver& driver, EngineDialler& dialler)
    : context_(context), driver_(driver), dialler_(dialler) {}

NbdAttacher::Device& NbdAttacher::entry(const std::string& device) const {
    MutexLock lock(mutex_);
    auto& found = entries_[device];
    if (!found) {
        found = std::make_unique<Device>();
    }
    return *found;
}

const VolumeConfig* NbdAttacher::volume_of(const std::string& device) const {
    for (const auto& [name, volume] : context_.used().volumes) {
        if (volume.device == device && volume.backing.contains(context_.node.name)) {
            return &volume;
        }
    }
    return nullptr;
}

Result<NbdAttacher::Found> NbdAttacher::find(const std::string& device) const {
    const auto index = index_of_device(device);
    if (!index) {
        return Failure(index.error());
    }
    Found found{*index, driver_.attachment(*index)};
    const VolumeConfig* volume = volume_of(device);
    Device& here = entry(device);
    MutexLock lock(here.mutex);
    here.is_dropped = here.is_dropped && found.attachment;
    found.is_dropped = here.is_dropped;
    found.is_ours = found.attachment && !found.is_dropped && volume != nullptr &&
                    found.attachment->backend == volume->name;
    return found;
}

void NbdAttacher::record(const std::string& volume, std::string id, Severity severity,
                         std::string text, std::string cause, std::string remedy) {
    context_.events.record(
        {std::move(id), severity, volume, std::move(text), std::move(cause), std::move(remedy)});
}

milliseconds NbdAttacher::usual_time(const std::string& volume) const {
    const Config& config = context_.used();
    const auto found = config.volumes.find(volume);  // a reload may have taken it out
    return usual_replay_after(found == config.volumes.end() ? VolumeConfig{} : found->second);
}

Result<void> NbdAttacher::connect(DeviceIndex index, const std::string& socket,
                                  const std::string& volume) {
    Result<void> done;
    // Whoever looks at a free device (udev, after a detach) keeps it busy for a moment.
    (void)wait_until(release_patience, [&] {
        auto engine = dialler_.dial(socket, volume, connections_of_device);
        done = engine
                   ? driver_.connect(index, setup_of(volume, *engine), std::move(engine->sockets))
                   : Failure(engine.error());
        return done || done.error().kind != ErrorKind::busy;
    });
    return done.and_then([&] { return driver_.set_replay_after(index, usual_time(volume)); });
}

Result<std::size_t> NbdAttacher::renew(const Found& found, const std::string& socket,
                                       const std::string& volume, Need need) {
    const std::size_t wanted = found.attachment->connections;
    std::size_t renewed = 0;
    std::optional<Error> failed;
    const bool complete = wait_until(notice_patience, [&] {
        auto engine = dialler_.dial(socket, volume, static_cast<unsigned>(wanted - renewed));
        if (!engine) {
            failed = engine.error();
            return true;
        }
        const NbdDriver::Setup setup = setup_of(volume, *engine);
        const auto taken = driver_.reconfigure(found.index, setup, std::move(engine->sockets));
        if (!taken) {
            failed = taken.error();
            return true;
        }
        renewed += *taken;
        return need != Need::all || renewed >= wanted;
    });
    if (failed) {
        return Failure(*failed);
    }
    if (!complete) {
        return fail(ErrorKind::timed_out,
                    "the kernel accepted {} of {} new connections for {}: it still holds old ones",
                    renewed, wanted, device_of_index(found.index));
    }
    return driver_.set_replay_after(found.index, usual_time(volume)).map([&] { return renewed; });
}

Result<void> NbdAttacher::attach(const std::string& device, const std::string& socket,
                                 const std::string& volume) {
    const auto config = context_.used().volume(volume);
    if (!config) {
        return Failure(config.error());
    }
    Device& here = entry(device);
    MutexLock turn(here.turn);
    const auto found = find(device);
    if (!found) {
        return Failure(found.error());
    }
    if (auto present = driver_.require_present(found->index); !present) {
        Error error = present.error();
        error.remedy += fmt::format(
            "; where the kernel has none, use the volume as NBD at {}, or "
            "as a file with nbdfuse(1)",
            socket);
        return Failure(error);
    }
    if (found->attachment && found->attachment->backend != volume) {
        const std::string& other = found->attachment->backend;
        return Failure(Error{ErrorKind::busy,
                             fmt::format("{} is attached to {} already", device,
                                         other.empty() ? "an unnamed NBD server" : other),
                             fmt::format("free it (nbd-client -d {}), or set another device for "
                                         "{}",
                                         device, volume)});
    }
    if (found->is_dropped) {
        auto unused = driver_.claim(found->index);
        return unused ? fail(ErrorKind::busy, "{} is being released", device)
                      : Failure(unused.error());
    }
    Need need = Need::some;
    {
        MutexLock lock(here.mutex);
        need = here.need == Need::all ? Need::all : Need::some;
        here.came_up = Need::none;
    }
    const Result<void> done = found->attachment
                                  ? renew(*found, socket, volume, need).map([](std::size_t) {})
                                  : connect(found->index, socket, volume);
    if (!done) {
        return Failure(done.error());
    }
    MutexLock lock(here.mutex);
    here.volume = volume;
    here.socket = socket;
    end_turn(here);
    return {};
}

Result<void> NbdAttacher::detach(const std::string& device) {
    Device& here = entry(device);
    MutexLock turn(here.turn);
    const auto found = find(device);
    if (!found) {
        return Failure(found.error());
    }
    if (found->is_ours) {
        Result<Fd> claim;
        (void)wait_until(users_patience, [&] {
            claim = driver_.claim(found->index);
            return claim.has_value();
        });
        if (!claim) {
            return Failure(claim.error());
        }
        // With the claim held: nobody mounts what is going away.
        if (auto done = driver_.disconnect(found->index); !done) {
            return done;
        }
    }
    {
        MutexLock lock(here.mutex);
        here.volume.clear();
        here.need = Need::none;
    }
    if (found->is_ours &&
        !wait_until(release_patience, [&] { return !driver_.attachment(found->index); })) {
        return fail(ErrorKind::busy, "{} is detached, but a program still has it open", device);
    }
    return {};
}

Result<bool> NbdAttacher::drop(const std::string& device) {
    Device& here = entry(device);
    MutexLock turn(here.turn);
    {
        MutexLock lock(here.mutex);
        here.volume.clear();
        here.need = Need::none;
    }
    const auto found = find(device);
    if (!found) {
        return Failure(found.error());
    }
    if (!found->is_ours) {
        return false;
    }
    if (auto done = driver_.disconnect(found->index); !done) {
        return Failure(done.error());
    }
    MutexLock lock(here.mutex);
    here.is_dropped = true;
    return true;
}

bool NbdAttacher::is_attached(const std::string& device) const {
    const auto found = find(device);
    return found && found->is_ours;
}

unsigned NbdAttacher::connections(const std::string& device) const {
    const auto found = find(device);
    return found && found->is_ours ? found->attachment->connections : 0;
}

Result<void> NbdAttacher::require_unused(const std::string& device) const {
    const auto found = find(device);
    if (!found || !found->is_ours) {
        return {};
    }
    return driver_.claim(found->index).map([](const Fd&) {});
}

void NbdAttacher::adopt(const std::string& device, const std::string& socket) {
    Device& here = entry(device);
    MutexLock turn(here.turn);
    const auto found = find(device);
    if (!found || !found->is_ours) {
        return;
    }
    const VolumeConfig* const volume = volume_of(device);
    if (volume == nullptr) {
        return;  // a reload has taken it out since
    }
    MutexLock lock(here.mutex);
    here.volume = volume->name;
    here.socket = socket;
    here.need = Need::some;
}

void NbdAttacher::engine_gone(const std::string& device) {
    Device& here = entry(device);
    MutexLock lock(here.mutex);
    here.came_up = Need::all;
    if (!here.volume.empty()) {
        here.need = Need::all;
        here.retry_due = SteadyTime{};
        here.backoff = milliseconds(0);
    }
}

void NbdAttacher::note_link_dead(const std::string& device) {
    Device& here = entry(device);
    MutexLock lock(here.mutex);
    here.came_up = std::max(here.came_up, Need::some);
    if (here.volume.empty() || here.need == Need::all) {
        return;
    }
    here.need = Need::some;
    here.retry_due = here.mended_at + first_retry;
}

void NbdAttacher::end_turn(Device& here) const {
    here.need = std::exchange(here.came_up, Need::none);
    here.retry_due = context_.clock.steady_now() + first_retry;
    here.backoff = milliseconds(0);
}

Result<void> NbdAttacher::set_replay_after(const std::string& device, milliseconds time) {
    Device& here = entry(device);
    MutexLock turn(here.turn);
    const auto found = find(device);
    if (!found || !found->is_ours) {
        return found ? Result<void>{} : Failure(found.error());
    }
    return driver_.set_replay_after(found->index, time);
}

std::string NbdAttacher::state(const std::string& device) const {
    const auto found = find(device);
    if (!found || !found->attachment) {
        return "detached";
    }
    if (!found->is_ours) {
        return found->is_dropped ? "dropped" : "foreign";
    }
    Device& here = entry(device);
    MutexLock lock(here.mutex);
    return here.need == Need::none ? "attached" : "reconnecting";
}

}  // namespace mirror::daemon
