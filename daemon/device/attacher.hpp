// SPDX-License-Identifier: BSD-3-Clause
// Volumes as kernel block devices (/dev/nbdN) while they are active here. A device outlives its
// engine: it is attached once, and given new connections whenever an engine has been replaced or
// the kernel has given one up. Any thread; calls for one device take turns.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/base/error.hpp"
#include "core/base/sync.hpp"
#include "daemon/context.hpp"
#include "daemon/device/driver.hpp"
#include "daemon/device/handshake.hpp"

namespace mirror::daemon {

class DeviceAttacher {
  public:
    virtual ~DeviceAttacher() = default;

    /// Attaches the volume that is served at `socket`, or reconnects the device when it is the
    /// volume's already.
    [[nodiscard]] virtual Result<void> attach(const std::string& device, const std::string& socket,
                                              const std::string& volume) = 0;
    /// `busy`, with the mount point or the processes, while the device is in use. Not attached:
    /// success.
    [[nodiscard]] virtual Result<void> detach(const std::string& device) = 0;
    /// At once, whoever uses it: they get I/O errors instead of waiting for an engine that will
    /// not come back. False when it was not attached to its volume.
    [[nodiscard]] virtual Result<bool> drop(const std::string& device) = 0;
    /// To the volume that has it in the configuration.
    [[nodiscard]] virtual bool is_attached(const std::string& device) const = 0;
    /// How many of the engine's clients are the kernel's connections for it.
    [[nodiscard]] virtual unsigned connections(const std::string& device) const = 0;
    /// Why the device can't be detached now: `busy`; success when nobody uses it.
    [[nodiscard]] virtual Result<void> require_unused(const std::string& device) const = 0;

    // For a device that stays while engines come and go.
    /// For mirrord's start: a device that is attached is looked after again.
    virtual void adopt(const std::string& device, const std::string& socket) = 0;
    /// The engine is dead or about to be; a new one may come.
    virtual void engine_gone(const std::string& device) = 0;
    /// What is to be done while the engine runs: new connections for dead ones. Never blocks for
    /// longer than a handshake. When to come back; nothing: when the kernel says that a connection
    /// is dead.
    [[nodiscard]] virtual std::optional<std::chrono::milliseconds> look_after(
        const std::string& device) = 0;
    /// Before a planned end of the engine: requests that are sent from now on are sent again that
    /// soon after its death. A new engine brings the usual time back.
    [[nodiscard]] virtual Result<void> set_replay_after(const std::string& device,
                                                        std::chrono::milliseconds time) = 0;
    /// The kernel gave up a connection of this device. Does not block.
    virtual void note_link_dead(const std::string& device) = 0;

    /// "attached", "reconnecting", "detached", "dropped" (and still in use), "foreign" (somebody
    /// else's).
    [[nodiscard]] virtual std::string state(const std::string& device) const = 0;
};

class NbdAttacher final : public DeviceAttacher {
  public:
    /// All outlive this.
    NbdAttacher(const Context& context, NbdDriver& driver, EngineDialler& dialler);

    Result<void> attach(const std::string& device, const std::string& socket,
                        const std::string& volume) override;
    Result<void> detach(const std::string& device) override;
    Result<bool> drop(const std::string& device) override;
    bool is_attached(const std::string& device) const override;
    unsigned connections(const std::string& device) const override;
    Result<void> require_unused(const std::string& device) const override;
    void adopt(const std::string& device, const std::string& socket) override;
    void engine_gone(const std::string& device) override;
    std::optional<std::chrono::milliseconds> look_after(const std::string& device) override;
    Result<void> set_replay_after(const std::string& device,
                                  std::chrono::milliseconds time) override;
    void note_link_dead(const std::string& device) override;
    std::string state(const std::string& device) const override;

  private:
    enum class Need {
        none,
        some,  ///< connections that the kernel gave up, or may have
        all,   ///< the engine is another one
    };
    /// Who holds `turn` may do something with the device; the rest is for everybody.
    struct Device {
        Mutex turn;
        Mutex mutex;
        std::string volume GUARDED_BY(mutex);  ///< empty: not ours to look after
        std::string socket GUARDED_BY(mutex);
        Need need GUARDED_BY(mutex) = Need::none;
        /// What came up since the turn began: its end must not take that for mended.
        Need came_up GUARDED_BY(mutex) = Need::none;
        bool is_dropped GUARDED_BY(mutex) = false;  ///< and there as long as somebody uses it
        SteadyTime mended_at GUARDED_BY(mutex){};
        SteadyTime retry_due GUARDED_BY(mutex){};
        std::chrono::milliseconds backoff GUARDED_BY(mutex){0};
    };

    struct Found {
        DeviceIndex index = 0;
        std::optional<NbdDriver::Attachment> attachment{};
        bool is_ours = false;
        bool is_dropped = false;
    };

    [[nodiscard]] Device& entry(const std::string& device) const EXCLUDES(mutex_);
    /// The volume that has this device in the configuration; null: none.
    [[nodiscard]] const VolumeConfig* volume_of(const std::string& device) const;
    [[nodiscard]] std::chrono::milliseconds usual_time(const std::string& volume) const;
    [[nodiscard]] Result<Found> find(const std::string& device) const;
    [[nodiscard]] Result<void> connect(DeviceIndex index, const std::string& socket,
                                       const std::string& volume);
    /// Gives the kernel connections until it has taken what is needed; how many it took.
    [[nodiscard]] Result<std::size_t> renew(const Found& found, const std::string& socket,
                                            const std::string& volume, Need need);
    /// The device has what it needed when the turn began.
    void end_turn(Device& device_entry) const REQUIRES(device_entry.mutex);
    /// What look_after does when something is due.
    void mend(const std::string& device, Device& device_entry);
    void note_mended(const std::string& device, Device& device_entry, std::size_t renewed);
    void note_failure(const std::string& device, Device& device_entry, const Error& error);
    void record(const std::string& volume, std::string id, Severity severity, std::string text,
                std::string cause = {}, std::string remedy = {});

    const Context& context_;
    NbdDriver& driver_;
    EngineDialler& dialler_;
    mutable Mutex mutex_;
    mutable std::map<std::string, std::unique_ptr<Device>> entries_ GUARDED_BY(mutex_);
};

}  // namespace mirror::daemon
