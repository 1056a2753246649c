// SPDX-License-Identifier: BSD-3-Clause
// libnl's objects with an owner, and the kernel's answer as an errno. One thread each.
#pragma once

#include <linux/nbd-netlink.h>
#include <memory>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include "core/base/error.hpp"

namespace mirror::daemon {

struct FreeSocket {
    void operator()(nl_sock* socket) const noexcept { ::nl_socket_free(socket); }
};
struct FreeMessage {
    void operator()(nl_msg* message) const noexcept { ::nlmsg_free(message); }
};
using NlMessage = std::unique_ptr<nl_msg, FreeMessage>;

/// A connection to the kernel's generic netlink, with the number of the family "nbd".
class NlSocket {
  public:
    [[nodiscard]] static Result<NlSocket> open();

    [[nodiscard]] nl_sock* get() const noexcept { return socket_.get(); }
    [[nodiscard]] int family() const noexcept { return family_; }
    /// An empty request for this command.
    [[nodiscard]] NlMessage request(int command) const;
    /// Sends it; 0, or the errno of the kernel's answer.
    [[nodiscard]] int run(NlMessage message) const;

  private:
    NlSocket() = default;

    std::unique_ptr<nl_sock, FreeSocket> socket_;
    int family_ = 0;
};

}  // namespace mirror::daemon
