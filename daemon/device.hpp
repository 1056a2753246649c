// SPDX-License-Identifier: BSD-3-Clause
// The volume as a kernel block device while it is active here. Behind one small interface, since
// the way in may change (nbd-client now). Any thread; one call at a time per device.
#pragma once

#include <memory>
#include <string>

#include "core/base/error.hpp"

namespace mirror::daemon {

class DeviceAttacher {
  public:
    virtual ~DeviceAttacher() = default;

    /// Attaches the volume that is served at `socket`. Done already: success.
    [[nodiscard]] virtual Result<void> attach(const std::string& device, const std::string& socket,
                                              const std::string& volume) = 0;
    /// `busy`, with the mount point or the processes, while the device is in use. Not attached:
    /// success.
    [[nodiscard]] virtual Result<void> detach(const std::string& device) = 0;
    [[nodiscard]] virtual bool is_attached(const std::string& device) const = 0;
    /// Why the device can't be detached now: `busy`; success when nobody uses it.
    [[nodiscard]] virtual Result<void> require_unused(const std::string& device) const = 0;
};

/// The kernel's nbd driver, by nbd-client(8).
[[nodiscard]] std::unique_ptr<DeviceAttacher> make_nbd_client_attacher();

}  // namespace mirror::daemon
