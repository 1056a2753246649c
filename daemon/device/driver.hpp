// SPDX-License-Identifier: BSD-3-Clause
// The kernel's nbd driver, as much of it as the daemon uses; an interface, so that what is done
// with it can be tested without a kernel that has it. Any thread.
//
// A device outlives its server: requests wait for a new connection for dead_conn_timeout. Requests
// that were sent before the server died are sent again when their own timer finds a new connection,
// and no earlier. With one connection, and no timeout given to the driver, that is all that the
// timer does: a server may be as slow as it likes.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"

namespace mirror::daemon {

/// N of /dev/nbdN.
using DeviceIndex = unsigned;

class NbdDriver {
  public:
    virtual ~NbdDriver() = default;

    struct Attachment {
        std::string backend;  ///< the identifier given at connect(); empty: none was
        unsigned connections = 0;
    };
    /// Nothing when the device is attached to nothing.
    [[nodiscard]] virtual std::optional<Attachment> attachment(DeviceIndex index) const = 0;
    /// An error that says how to get it, when the driver or the device isn't there.
    [[nodiscard]] virtual Result<void> require_present(DeviceIndex index) const = 0;

    struct Setup {
        std::string backend;
        std::uint64_t size = 0;
        std::uint64_t flags = 0;  ///< NBD_FLAG_* of the transmission
    };
    /// Each socket is a negotiated connection; the kernel keeps them.
    [[nodiscard]] virtual Result<void> connect(DeviceIndex index, const Setup& setup,
                                               std::vector<Fd> sockets) = 0;
    /// The sockets take the places of dead ones. How many did: the kernel drops what it has no
    /// use for, and calls that a success.
    [[nodiscard]] virtual Result<std::size_t> reconfigure(DeviceIndex index, const Setup& setup,
                                                          std::vector<Fd> sockets) = 0;
    /// The timer of requests that are sent from now on. connect() sets it to 30 s.
    [[nodiscard]] virtual Result<void> set_replay_after(DeviceIndex index,
                                                        std::chrono::milliseconds time) = 0;
    /// An exclusive open, so that nobody mounts the device; `busy`, with names, while it is used.
    [[nodiscard]] virtual Result<Fd> claim(DeviceIndex index) const = 0;
    /// Whatever waits gets an I/O error.
    [[nodiscard]] virtual Result<void> disconnect(DeviceIndex index) = 0;
};

/// "/dev/nbd0" → 0; an error for any other kind of device.
[[nodiscard]] Result<DeviceIndex> index_of_device(const std::string& device);
[[nodiscard]] std::string device_of_index(DeviceIndex index);

}  // namespace mirror::daemon
