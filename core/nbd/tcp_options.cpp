// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/tcp_options.hpp"

#include <cstdint>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace mirror::nbd {
namespace {

bool set_option(int socket, int level, int option, int value) noexcept {
    return ::setsockopt(socket, level, option, &value, sizeof value) == 0;
}

}  // namespace

void set_tcp_options(int socket, std::chrono::milliseconds silence) noexcept {
    // Fails on a Unix socket, which needs none of this.
    if (!set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1)) {
        return;
    }
    const int total = static_cast<int>(
        std::clamp<std::int64_t>(silence.count(), 1000, std::int64_t{12} * 3600 * 1000));
    set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, std::max(1, total / 2000));
    set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, total / 6000));
    set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, total);
}

void probe_often(int socket) noexcept {
    if (set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, 1)) {
        set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, 1);
    }
}

}  // namespace mirror::nbd
