// SPDX-License-Identifier: BSD-3-Clause
// The bytes of a link after its handshake, plain or encrypted, without ever waiting. One thread
// sends at a time and one receives; they may be two. Owned by LinkDriver.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <sys/uio.h>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/base/sync.hpp"
#include "core/tls/session.hpp"

namespace mirror::nbd {

class Channel {
  public:
    Channel(Fd socket, std::optional<tls::Session> tls) noexcept
        : socket_(std::move(socket)), is_encrypted_(tls.has_value()), tls_(std::move(tls)) {}
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

    /// How many bytes of the pieces, from the first on, are taken: they may be used again. Fewer
    /// than all means that poll() has to tell when there is room.
    [[nodiscard]] Result<std::size_t> send(std::span<const iovec> pieces) EXCLUDES(mutex_);
    /// Taken and not on its way yet, since the socket is full: send_rest() when there is room.
    [[nodiscard]] bool has_rest() EXCLUDES(mutex_);
    [[nodiscard]] Result<void> send_rest() EXCLUDES(mutex_);
    /// What is there; 0: nothing now. Less than `into` has room for: nothing more for now. The end
    /// of the stream is an error, kind unreachable.
    [[nodiscard]] Result<std::size_t> receive(std::span<std::byte> into) EXCLUDES(mutex_);

    /// Ends both directions at once. Any thread.
    void shutdown() noexcept;
    /// Tells the other side that nothing more comes, if that goes without waiting.
    void say_goodbye() noexcept EXCLUDES(mutex_);
    [[nodiscard]] int fd() const noexcept { return socket_.get(); }

  private:
    [[nodiscard]] Result<std::size_t> send_encrypted(std::span<const iovec> pieces)
        EXCLUDES(mutex_);
    [[nodiscard]] Result<void> push() REQUIRES(mutex_);
    [[nodiscard]] Result<std::size_t> receive_encrypted(std::span<std::byte> into) EXCLUDES(mutex_);
    [[nodiscard]] Result<std::size_t> receive_plain(std::span<std::byte> into) const;

    const Fd socket_;
    const bool is_encrypted_;
    Mutex mutex_;  ///< a session is for one thread at a time; a plain socket needs no lock
    std::optional<tls::Session> tls_ GUARDED_BY(mutex_);
    std::vector<std::byte> record_ GUARDED_BY(mutex_);  ///< small pieces become one record here
};

}  // namespace mirror::nbd
