// SPDX-License-Identifier: BSD-3-Clause
// The active's end of one NBD connection to a peer's export, over libnbd: many commands
// outstanding, one event thread that drives the handle, and a deadline: when the oldest command
// stays unanswered for `deadline`, or the connection fails, the link is lost, once and for good
// (libnbd cannot reconnect); every outstanding command then completes with the same error.
// While nothing is outstanding a small read every deadline/3 keeps watch over a silent peer.
//
// libnbd's traps are kept inside (docs/design.md): completions run with the handle's lock held, so
// they only queue here, and are delivered by the event thread after the lock is released.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/base/error.hpp"
#include "core/base/units.hpp"
#include "core/config/config.hpp"
#include "core/store/store.hpp"

namespace mirror::nbd {

struct LinkOptions {
    std::chrono::milliseconds connect_timeout{5000};  ///< for TCP connect and NBD handshake
    std::chrono::milliseconds deadline{5000};         ///< for each command
    bool heartbeat = true;
    std::string peer_name;  ///< for messages: the node
};

/// Where to connect: TCP endpoint or Unix socket path.
struct Address {
    Endpoint tcp;
    std::string unix_path;  ///< non-empty: this one

    [[nodiscard]] std::string text() const;
};

class Link {
  public:
    /// Called exactly once, from the link's event thread (or from submit's caller, when the link
    /// is lost already). Must not block and must not call the link.
    using Completion = std::function<void(Result<void>)>;

    /// Connects and negotiates within connect_timeout.
    [[nodiscard]] static Result<std::unique_ptr<Link>> connect(const Address& address,
                                                               const std::string& export_name,
                                                               const LinkOptions& options);
    ~Link();  ///< closes; outstanding commands complete with an error first
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    [[nodiscard]] std::uint64_t export_size() const noexcept;

    /// Buffers must live until completion. Ranges at most 32 MiB for read and write, below 4 GiB
    /// for zero.
    void read(std::span<std::byte> into, std::uint64_t offset, Completion done);
    void write(std::span<const std::byte> from, std::uint64_t offset, bool fua, Completion done);
    void zero(ByteRange range, Space space, bool fua, Completion done);
    void flush(Completion done);

    // The same, waiting for the answer.
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset);
    [[nodiscard]] Result<void> write(std::span<const std::byte> from, std::uint64_t offset,
                                     bool fua);
    [[nodiscard]] Result<void> zero(ByteRange range, Space space, bool fua);
    [[nodiscard]] Result<void> flush();

    /// Ends the connection at once; commands complete with an error that carries `reason`.
    void lose(const std::string& reason);
    [[nodiscard]] bool is_lost() const noexcept;
    /// Called once from the event thread when the link is lost, before the commands complete.
    /// Set before the first command.
    void on_lost(std::function<void(const Error&)> callback);

    /// Steady-clock time of the last answer.
    [[nodiscard]] std::chrono::steady_clock::time_point last_answer() const noexcept;
    /// Payload bytes of completed writes, for counters in status.
    [[nodiscard]] std::uint64_t bytes_written() const noexcept;

  private:
    struct Impl;
    explicit Link(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace mirror::nbd
