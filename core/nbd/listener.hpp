// SPDX-License-Identifier: BSD-3-Clause
// The sockets under the server: listening on TCP and on a Unix socket, and what there is to know
// of an accepted one. Called by the server's starter and its accept threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/config/config.hpp"
#include "core/nbd/export.hpp"

namespace mirror::nbd {

/// A listening socket, non-blocking; removes its socket file at the end.
class Listener {
  public:
    /// Whether an address of IPv6 takes the port of IPv4, too, where the system has it so ("[::]").
    enum class Family { any, own };
    /// The host must be a number (look_up.hpp).
    [[nodiscard]] static Result<Listener> on_tcp(const Endpoint& endpoint,
                                                 Family family = Family::any);
    /// A socket file that nobody listens on is replaced; a live one, or any other file, is not.
    /// With a group, the file belongs to it before anybody can connect.
    [[nodiscard]] static Result<Listener> on_unix(const std::string& path, unsigned mode,
                                                  std::optional<gid_t> group);

    Listener(Listener&&) = default;
    Listener& operator=(Listener&&) = delete;
    ~Listener();

    /// Nobody comes in any more; who waits to be accepted is turned away. A Unix socket and its
    /// file are gone at once. A TCP port stays taken until the object goes: where a handshake's
    /// last packet meets a port that is being given up, Linux drops it without an answer, and the
    /// client has a connection that nobody else knows of. (A port that the kernel chose can't be
    /// kept.)
    void retire() noexcept;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// The bound port; 0 for a Unix socket.
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

  private:
    Listener() = default;

    Fd fd_;
    std::uint16_t port_ = 0;
    std::string path_{};  ///< of the socket file; with its identity, since it may be replaced
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

[[nodiscard]] Client identify(int socket);

/// On a Unix socket: root, or the user that this process is. Nobody else is to keep them out.
[[nodiscard]] bool is_ours(const Client& client) noexcept;

}  // namespace mirror::nbd
