// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/device/handshake.hpp"

#include <linux/nbd.h>

#include "core/nbd/dial.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::seconds handshake_deadline{5};

/// Newer kernels send it; the headers of older ones lack the name.
constexpr std::uint64_t send_write_zeroes = 1U << 6;

/// libnbd has the answers, not the word that the server sent.
std::uint64_t flags_of(nbd_handle* handle) {
    std::uint64_t flags = NBD_FLAG_HAS_FLAGS;
    const auto add = [&](int answer, std::uint64_t flag) { flags |= answer == 1 ? flag : 0; };
    add(::nbd_is_read_only(handle), NBD_FLAG_READ_ONLY);
    add(::nbd_can_flush(handle), NBD_FLAG_SEND_FLUSH);
    add(::nbd_can_fua(handle), NBD_FLAG_SEND_FUA);
    add(::nbd_can_trim(handle), NBD_FLAG_SEND_TRIM);
    add(::nbd_can_zero(handle), send_write_zeroes);
    add(::nbd_can_multi_conn(handle), NBD_FLAG_CAN_MULTI_CONN);
    return flags;
}

}  // namespace

Result<EngineConnections> NbdDialler::dial(const std::string& socket, const std::string& volume,
                                           unsigned count) {
    EngineConnections result;
    nbd::LinkOptions options;
    options.connect_timeout = handshake_deadline;
    for (unsigned number = 0; number < count; ++number) {
        // Simple replies, the only ones that the kernel knows. Closing libnbd's handle says
        // nothing to the server, and its socket is a duplicate.
        auto opened = nbd::open_export(nbd::Address{{}, socket}, volume, options);
        if (!opened) {
            return Failure(opened.error());
        }
        result.size = opened->size;
        result.flags = flags_of(opened->handle.get());
        result.sockets.push_back(std::move(opened->socket));
    }
    return result;
}

}  // namespace mirror::daemon
