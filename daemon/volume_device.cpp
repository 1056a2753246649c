// SPDX-License-Identifier: BSD-3-Clause
// VolumeKeeper: the kernel device, which stays while engines come and go.
#include "core/base/log.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

/// A device that an earlier mirrord attached.
void VolumeKeeper::find_device() {
    if (config().device.empty()) {
        return;
    }
    const Place here = place();
    if ((here == Place::standby || here == Place::absent) && !waits_for_peer()) {
        return drop_device("this node is standby since mirrord started");
    }
    devices_.adopt(config().device, paths_.device_socket());
    if (!engine_is_running()) {
        note_device_without_engine();
    }
}

void VolumeKeeper::note_device_without_engine() {
    if (!config().device.empty()) {
        devices_.engine_gone(config().device);
    }
}

std::optional<std::chrono::milliseconds> VolumeKeeper::look_after_device() {
    return config().device.empty() ? std::nullopt : devices_.look_after(config().device);
}

void VolumeKeeper::drop_device(const std::string& why) {
    if (config().device.empty()) {
        return;
    }
    const auto dropped = devices_.drop(config().device);
    if (!dropped) {
        log(LogLevel::warning, "{}: {}", name(), dropped.error().text());
    } else if (*dropped) {
        record("device-dropped", Severity::error,
               fmt::format("{} was detached from {}: programs that used it get I/O errors",
                           config().device, name()),
               why,
               fmt::format("umount {}, and mount it where {} is active", config().device, name()));
    }
}

void VolumeKeeper::on_link_dead() {
    devices_.note_link_dead(config().device);
    // Its connections end a moment before an engine's death is seen.
    wake();
}

}  // namespace mirror::daemon
