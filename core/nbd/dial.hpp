// SPDX-License-Identifier: BSD-3-Clause
// From an address to a negotiated libnbd handle, within a time limit that also holds against a
// peer that accepts and then says nothing (libnbd's own blocking connect knows no limit). Called
// by Link::connect in its caller's thread. One blind spot: the look-up of a host name takes as
// long as the system's resolver lets it; numeric addresses are not looked up.
//
// In NBD the server speaks first. So a client would wait for nothing where the server's kernel has
// dropped the connection without a word, which it does when the listening socket is closed at that
// very moment. Until the handshake is done the other kernel is asked every second, and says so.
#pragma once

#include <memory>
#include <string>

#include <libnbd.h>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/nbd/link.hpp"

namespace mirror::nbd {

struct CloseHandle {
    void operator()(nbd_handle* handle) const noexcept { ::nbd_close(handle); }
};
using Handle = std::unique_ptr<nbd_handle, CloseHandle>;

struct OpenedExport {
    Handle handle;  ///< ready for commands; owns a duplicate of the socket
    /// Stays open when libnbd has closed its own on a dead connection, so that poll() and
    /// shutdown() can't hit a number that has become somebody else's file.
    Fd socket;
    std::uint64_t size = 0;
};

[[nodiscard]] Result<OpenedExport> open_export(const Address& address,
                                               const std::string& export_name,
                                               const LinkOptions& options);

/// libnbd's last error in this thread, without the name of the C function that met it.
[[nodiscard]] std::string last_nbd_error();

}  // namespace mirror::nbd
