// SPDX-License-Identifier: BSD-3-Clause
// The nbd driver by its generic netlink family (linux/nbd-netlink.h) and sysfs. Each command has a
// netlink socket of its own: there are few, and they come from several threads.
#pragma once

#include <functional>
#include <memory>

#include "core/base/start_thread.hpp"
#include "daemon/device/driver.hpp"

namespace mirror::daemon {

class NetlinkDriver final : public NbdDriver {
  public:
    [[nodiscard]] std::optional<Attachment> attachment(DeviceIndex index) const override;
    [[nodiscard]] Result<void> require_present(DeviceIndex index) const override;
    [[nodiscard]] Result<void> connect(DeviceIndex index, const Setup& setup,
                                       std::vector<Fd> sockets) override;
    [[nodiscard]] Result<std::size_t> reconfigure(DeviceIndex index, const Setup& setup,
                                                  std::vector<Fd> sockets) override;
    [[nodiscard]] Result<void> set_replay_after(DeviceIndex index,
                                                std::chrono::milliseconds time) override;
    [[nodiscard]] Result<Fd> claim(DeviceIndex index) const override;
    [[nodiscard]] Result<void> disconnect(DeviceIndex index) override;
};

/// Listens for LINK_DEAD, in a thread of its own: the kernel gave up a connection.
class LinkDeadListener {
  public:
    using Callback = std::function<void(DeviceIndex)>;

    /// Waits for the driver to be loaded, if it is not.
    explicit LinkDeadListener(Callback callback);
    ~LinkDeadListener();  ///< stops; no callback runs after it
    LinkDeadListener(const LinkDeadListener&) = delete;
    LinkDeadListener& operator=(const LinkDeadListener&) = delete;

  private:
    void run();
    /// Until the socket fails or it is time to stop.
    void listen();
    /// False when it is time to stop.
    [[nodiscard]] bool wait(std::chrono::milliseconds time) const;

    const Callback callback_;
    const Fd stop_;  ///< eventfd
    Thread thread_;
};

}  // namespace mirror::daemon
