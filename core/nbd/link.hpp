// SPDX-License-Identifier: BSD-3-Clause
// The active's end of one NBD connection to a peer's export: many commands outstanding, one event
// thread that receives the answers, and a deadline: when the oldest command stays unanswered for
// `deadline`, or the connection fails, the link is lost, once and for good; every outstanding
// command then completes with the same error. While nothing is outstanding a small read every
// deadline/3 keeps watch over a silent peer; several links to one peer share that work
// (LinkOptions::watch_period). A peer that is known to work on what was sent (believe()) is not
// silent.
//
// Callers send what they submit in their own thread; who finds another one sending leaves his
// commands to it, so that commands that come together leave together. A thread that waits for many
// sockets anyway can receive the answers, too (lend()).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/base/error.hpp"
#include "core/base/units.hpp"
#include "core/config/config.hpp"
#include "core/nbd/signs_of_life.hpp"
#include "core/nbd/tcp_options.hpp"
#include "core/store/store.hpp"
#include "core/tls/credentials.hpp"

namespace mirror::nbd {

struct LinkOptions {
    std::chrono::milliseconds connect_timeout{5000};  ///< for TCP connect and NBD handshake
    std::chrono::milliseconds deadline{5000};         ///< for each command
    /// For each command while the peer shows progress, where the link was told of signs of that.
    std::chrono::milliseconds patience = patience_with_work;
    /// Over TCP the link is lost when the peer's kernel gave no sign of life for so long, however
    /// far away the deadline is (core/nbd/tcp_options.hpp).
    std::chrono::milliseconds silence = least_silence;
    /// Look after an idle peer; a silent one is noticed within 4/3 of the deadline. Nothing is read
    /// of an export without bytes.
    bool heartbeat = true;
    /// How often to look after an idle peer; a silent one is noticed within this and the deadline.
    /// 0: three times within the deadline. With a period of its own the answer to such a look is
    /// taken when the next is due, which saves a wake-up, and counts as one of when it was asked
    /// for.
    std::chrono::milliseconds watch_period{0};
    /// The export is a framed one (core/nbd/frame.hpp): whatever is garbled on the way there or
    /// back is noticed, and ends the link with an error of kind corrupt.
    bool framed = false;
    std::string peer_name;  ///< for messages: the node
};

/// Where to connect: TCP endpoint or Unix socket path.
struct Address {
    Endpoint tcp;
    std::string unix_path;  ///< non-empty: this one
    /// Over TCP: with what we prove who we are, and see that it is `node`. Null: unencrypted.
    std::shared_ptr<const tls::Credentials> tls = nullptr;
    std::string node{};

    [[nodiscard]] std::string text() const;
};

class LinkDriver;  // core/nbd/link_driver.hpp

class Link {
  public:
    /// Called exactly once, from the thread that receives (or from submit's caller, when the link
    /// is lost already, or the command cannot be sent). Must not block, must not wait for
    /// another command of this link, and must not destroy it; submitting further commands is fine.
    using Completion = std::function<void(Result<void>)>;

    /// Connects and negotiates within connect_timeout. Kinds of failure: unreachable, timed_out,
    /// refused (the export is not for us, with the server's reason; or a Unix socket without
    /// permission), protocol (it is no NBD server).
    [[nodiscard]] static Result<std::unique_ptr<Link>> connect(const Address& address,
                                                               const std::string& export_name,
                                                               const LinkOptions& options);
    /// Outstanding commands complete with an error first; with none outstanding the server gets a
    /// clean disconnect. Does not call on_lost. No other thread may use the link any more.
    ~Link();
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    [[nodiscard]] std::uint64_t export_size() const noexcept;
    /// What TLS has shown of the peer; nothing without TLS.
    [[nodiscard]] const std::optional<tls::Proof>& proof() const noexcept;

    // Any thread. Nothing is copied: buffers must live, unchanged, until completion. Ranges are
    // not empty, at most 32 MiB for read and write, below 4 GiB for zero. The caller's thread sends
    // as much as the socket takes, and never waits for it.
    //
    // A peer that answers with an error fails that command alone (kind no_space for ENOSPC, refused
    // for EPERM, invalid for EINVAL, else io; os_error is the peer's). What the peer cannot do (FUA
    // without the flag, out of bounds) completes with kind invalid and is not sent.
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

    /// A write at offset 0, and the read there that follows it, sent together: for a server that
    /// does a connection's commands in their order, and a write that is done within the deadline.
    [[nodiscard]] Result<void> exchange(std::span<const std::byte> from, std::span<std::byte> into);

    /// Ends the connection at once; commands complete with an error that carries `reason`.
    void lose(const std::string& reason);
    [[nodiscard]] bool is_lost() const noexcept;
    /// Called once from the event thread when the link is lost, after the commands that the peer
    /// had answered and before those that it had not; at once, if the link is lost already. Must
    /// not block. Set before the first command.
    void on_lost(std::function<void(const Error&)> callback);

    /// From now on a command is given up when neither it nor the peer's lane `lane` got on for the
    /// deadline, and after `patience` in any case. `signs` outlives the link. Once, before the
    /// first command.
    void believe(SignsOfLife& signs, std::size_t lane);

    /// Steady-clock time of the last answer.
    [[nodiscard]] std::chrono::steady_clock::time_point last_answer() const noexcept;
    /// Payload bytes of completed writes, for counters in status.
    [[nodiscard]] std::uint64_t bytes_written() const noexcept;

    /// Until the end what is submitted is queued, whoever submits it: core/nbd/link_batch.hpp.
    void begin_batch();
    void end_batch();

    /// From now on the answers are received by whoever waits for the epoll instance `poll`, which
    /// reports `mark` when some are there. So an answer need not wake a thread of the link's that
    /// wakes that one. It ends with take_back(), or with the link: the mark is gone from `poll`
    /// then. Lent to one at a time.
    void lend(int poll, void* mark);
    /// The borrower's: takes what is there, completions included. Nothing where it was taken back.
    void receive();
    /// When it returns, nobody is in receive(). Not from a completion.
    void take_back();

  private:
    explicit Link(std::unique_ptr<LinkDriver> driver) noexcept;
    std::unique_ptr<LinkDriver> driver_;
};

}  // namespace mirror::nbd
