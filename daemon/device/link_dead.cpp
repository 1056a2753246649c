// SPDX-License-Identifier: BSD-3-Clause
// The listener for LINK_DEAD.
#include <array>
#include <cerrno>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/log.hpp"
#include "daemon/device/netlink.hpp"
#include "daemon/device/nl_socket.hpp"

namespace mirror::daemon {
namespace {

/// The driver may be loaded at any time, and an overrun socket is opened anew.
constexpr std::chrono::milliseconds between_tries{5000};

int take_message(nl_msg* message, void* callback) {
    const auto* header = static_cast<genlmsghdr*>(::nlmsg_data(::nlmsg_hdr(message)));
    std::array<nlattr*, NBD_ATTR_MAX + 1> attributes{};
    if (header->cmd == NBD_CMD_LINK_DEAD &&
        ::genlmsg_parse(::nlmsg_hdr(message), 0, attributes.data(), NBD_ATTR_MAX, nullptr) == 0 &&
        attributes[NBD_ATTR_INDEX] != nullptr) {
        (*static_cast<const LinkDeadListener::Callback*>(callback))(
            ::nla_get_u32(attributes[NBD_ATTR_INDEX]));
    }
    return NL_OK;
}

}  // namespace

LinkDeadListener::LinkDeadListener(Callback callback)
    : callback_(std::move(callback)), stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    Result<void> started = fail_errno(errno, "an event descriptor");
    if (stop_.is_open()) {
        started = start_thread(thread_, "link-dead", [this] { run(); });
    }
    if (!started) {
        log(LogLevel::warning,
            "mirrord is not told when the kernel drops a connection of a device: {}",
            started.error().message);
    }
}

LinkDeadListener::~LinkDeadListener() {
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof one);
    if (thread_.joinable()) {
        thread_.join();
    }
}

bool LinkDeadListener::wait(std::chrono::milliseconds time) const {
    pollfd watched{stop_.get(), POLLIN, 0};
    return ::poll(&watched, 1, static_cast<int>(time.count())) <= 0;
}

void LinkDeadListener::run() {
    do {
        listen();
    } while (wait(between_tries));
}

void LinkDeadListener::listen() {
    const auto netlink = NlSocket::open();
    if (!netlink) {
        return;  // no driver: nothing can be attached
    }
    nl_sock* const socket = netlink->get();
    const int group =
        ::genl_ctrl_resolve_grp(socket, NBD_GENL_FAMILY_NAME, NBD_GENL_MCAST_GROUP_NAME);
    ::nl_socket_disable_seq_check(socket);
    ::nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, take_message,
                          const_cast<Callback*>(&callback_));
    if (group < 0 || ::nl_socket_add_membership(socket, group) < 0) {
        log(LogLevel::warning, "the kernel does not say when a device loses its connection");
        return;
    }
    (void)::nl_socket_set_nonblocking(socket);
    for (;;) {
        std::array<pollfd, 2> watched{pollfd{stop_.get(), POLLIN, 0},
                                      pollfd{::nl_socket_get_fd(socket), POLLIN, 0}};
        (void)::poll(watched.data(), watched.size(), -1);
        if (watched[0].revents != 0) {
            return;
        }
        if (const int code = ::nl_recvmsgs_default(socket);
            code < 0 && code != -NLE_AGAIN && code != -NLE_INTR) {
            return;
        }
    }
}

}  // namespace mirror::daemon
