// SPDX-License-Identifier: BSD-3-Clause
// From an address to a connection with an open export, within a time limit that also holds against
// a peer that accepts and then says nothing. Called by Link::connect in its caller's thread, and by
// who wants a socket for the kernel. One blind spot: the look-up of a host name takes as
// long as the system's resolver lets it; numeric addresses are not looked up.
//
// In NBD the server speaks first. So a client would wait for nothing where the server's kernel has
// dropped the connection without a word, which it does when the listening socket is closed at that
// very moment. Until the handshake is done the other kernel is asked every second, and says so.
#pragma once

#include <optional>
#include <string>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/nbd/client_handshake.hpp"
#include "core/nbd/link.hpp"
#include "core/tls/session.hpp"

namespace mirror::nbd {

struct OpenedExport {
    Fd socket;
    std::optional<tls::Session> tls;  ///< what the socket's bytes go through
    ExportFacts facts;
};

[[nodiscard]] Result<OpenedExport> open_export(const Address& address,
                                               const std::string& export_name,
                                               const LinkOptions& options);

}  // namespace mirror::nbd
