// SPDX-License-Identifier: BSD-3-Clause
// mirrord's NBD server: listens on TCP and on a Unix socket, one thread a connection, receives in
// batches (one recv of up to 256 KiB, all complete requests in order, replies gathered into one
// send), groups the flushes and FUA writes of a batch into one flush. Strangers cost little: the
// handshake has a deadline, and only so many may be in it at a time; for a newcomer the oldest is
// dropped of the address that has most of them, so that a flood of half-open connections cannot
// keep a peer out for long. What comes over the network takes no place from local programs, and no
// other user's program takes root's.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/config/config.hpp"
#include "core/nbd/export.hpp"
#include "core/tls/credentials.hpp"

namespace mirror::nbd {

/// Counts hold for the network and for Unix sockets, each on its own.
struct ServerLimits {
    std::size_t handshaking = 64;  ///< connections that have not opened an export yet
    std::size_t open = 256;        ///< connections with an export
    /// Of them, over the network: of a node that has proved who it is, else of an address.
    std::size_t open_of_one_peer = 192;
    /// More of them for root and for the process's own user, at Unix sockets.
    std::size_t kept_for_root = 16;
    std::chrono::milliseconds handshake_timeout{10000};
    /// A started request or a reply must move on within this time.
    std::chrono::milliseconds stall_timeout{30000};
};

/// Listening and stop() from one thread at a time; everything else inside.
class Server {
  public:
    /// With `tls` everybody who comes over TCP must begin TLS first; Unix sockets have none.
    Server(ExportProvider& provider, ServerLimits limits,
           std::shared_ptr<const tls::Credentials> tls = nullptr);
    ~Server();  ///< stops
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Binds before it returns, so that a failure ("address in use") reaches the caller. Port 0
    /// takes a free one; the bound port is returned. A name is looked up; see listen_on.
    [[nodiscard]] Result<std::uint16_t> listen_tcp(const Endpoint& endpoint);
    struct Listening {
        std::vector<Endpoint> bound;  ///< never empty
        std::vector<Error> failed;    ///< addresses that this machine does not have (any more)
    };
    /// On each of the addresses of one host, which are numbers, and one port. It fails where none
    /// is this machine's, or where another program has the port of one.
    [[nodiscard]] Result<Listening> listen_on(const std::vector<std::string>& numbers,
                                              std::uint16_t port);
    /// Replaces a dead socket file, never a live one; mode is the file's permission bits, group
    /// whom it belongs to if not to the process's own.
    [[nodiscard]] Result<void> listen_unix(const std::string& path, unsigned mode,
                                           std::optional<gid_t> group = std::nullopt);
    /// Closes listeners and connections, waits for all threads, and so for the destructors of all
    /// exports. Newcomers are turned away from its beginning; a TCP port is free for others at its
    /// end (Listener::retire). Idempotent; nothing can be listened on afterwards.
    void stop();

    /// Called from connections' threads for whoever failed to prove who he is. Before listening.
    void on_stranger(std::function<void(const Client&, const Error&)> callback);
    /// Ends connections over TCP with an export: of those whose key was taken away.
    void end_connections_of(const std::function<bool(const tls::Proof&)>& is_meant);

    /// For those who come from now on; `limits.handshaking` and the deadline of the handshake stay.
    void set_limits(const ServerLimits& limits);

    struct Guest {
        std::string address;
        tls::Proof proof;
    };
    /// Who has an export open over TCP.
    [[nodiscard]] std::vector<Guest> guests() const;

    struct Counters {
        std::uint64_t accepted = 0;
        std::uint64_t dropped = 0;  ///< for a limit or a deadline
        std::size_t handshaking = 0;
        std::size_t open = 0;
    };
    [[nodiscard]] Counters counters() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace mirror::nbd
