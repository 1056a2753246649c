// SPDX-License-Identifier: BSD-3-Clause
// Control requests over NBD: an export of 1 MiB. A write at offset 0 carries a JSON request, ended
// by a zero byte or the end of the payload; the write is answered when the request was carried
// out. A read at offset 0 then returns the JSON reply, padded with zero bytes. One mailbox a
// connection, so that replies cannot be mixed up. Stock tools can use it:
//   nbdsh -u 'nbd+unix:///control?socket=/run/mirrordisk/mirrord.sock'
//   nbd> h.pwrite(b'{"request":"version"}', 0); print(h.pread(4096, 0))
//
// Our own programs add a trailer behind the zero byte: a mark, and the CRC32C of the message (of a
// reply: continued from its request's, so that an older reply is not taken for the answer). A
// request whose trailer is wrong is not carried out; a reply without a good one is not believed.
// Whether a request has a trailer is told by its length, so that no flipped bit can hide it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "core/base/error.hpp"
#include "core/nbd/export.hpp"
#include "core/nbd/link.hpp"

namespace mirror::control {

using Json = nlohmann::json;

inline constexpr std::uint64_t mailbox_size = 1 * MiB;
inline constexpr const char* mailbox_export = "control";
inline constexpr int protocol_version = 3;

/// How deep a request or reply may nest: enough for every message, too little for a stack.
inline constexpr std::size_t max_depth = 64;

/// Carries out one request, which is an object. What it returns is the reply's body, an object or
/// null, which gets {"ok": true} added; or the error that is sent as
/// {"ok": false, "error": {"kind", "message", "remedy"}} and its "ground", if that is told. An
/// exception of nlohmann's (a field of the wrong type) becomes an error of kind invalid.
using Handler = std::function<Result<Json>(const Json& request, const nbd::Client& client)>;

/// The state of one mailbox: used by MailboxExport here and by the plugin's own `control` export.
/// Not thread-safe across calls; NBD clients use it one command at a time.
class Mailbox {
  public:
    Mailbox(Handler handler, nbd::Client client);
    /// A request: runs the handler. Only a write at offset 0 is accepted. Fails for that alone:
    /// what is wrong with the request itself is said in the reply.
    [[nodiscard]] Result<void> write(std::span<const std::byte> from, std::uint64_t offset);
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) const;

  private:
    Handler handler_;
    nbd::Client client_;
    std::string reply_;  ///< with its zero byte and trailer
};

/// A mailbox as an export of mirrord's server, or of an engine's express door.
[[nodiscard]] std::unique_ptr<nbd::Export> make_mailbox_export(Handler handler, nbd::Client client);

/// The asking side: one connection, requests one after the other. Not thread-safe.
class MailboxClient {
  public:
    /// How long to connect may take unless told otherwise; a request may take longer.
    static constexpr std::chrono::milliseconds usual_connect_timeout{5000};

    /// How long one takes at most that a peer works on (believe()): somebody who wants to end all
    /// this may be waiting for it.
    static constexpr std::chrono::milliseconds patience_with_work{30000};

    /// `deadline` bounds each request. Connecting takes no longer than the shorter of the two.
    /// `silence` is the link's: a request that takes hours must not outwait a machine that is gone.
    [[nodiscard]] static Result<MailboxClient> connect(
        const nbd::Address& address, const std::string& peer_name,
        std::chrono::milliseconds deadline,
        std::chrono::milliseconds connect_timeout = usual_connect_timeout,
        std::chrono::milliseconds silence = nbd::least_silence);
    /// Sends, waits, returns the body without "ok". An error reply becomes the Error it carries,
    /// as it is; errors of the connection name the peer. After one of those the client is of no
    /// further use.
    [[nodiscard]] Result<Json> ask(const Json& request);
    /// The same for what is asked again and again, with one wake-up at either end: request and read
    /// are sent together, and the deadline bounds both. The server must do a connection's commands
    /// in their order: mirrord does, and an engine's express door, but not nbdkit.
    [[nodiscard]] Result<Json> ask_at_once(const Json& request);
    /// Any thread: ends the connection. A request that waits for its answer fails at once.
    void lose(const std::string& reason) { link_->lose(reason); }
    /// A request is waited for beyond its deadline while the peer's lane gets on: Link::believe().
    void believe(nbd::SignsOfLife& signs, std::size_t lane) { link_->believe(signs, lane); }
    /// What TLS has shown of the other side.
    [[nodiscard]] const std::optional<tls::Proof>& proof() const noexcept { return link_->proof(); }

  private:
    explicit MailboxClient(std::unique_ptr<nbd::Link> link, std::string name)
        : link_(std::move(link)), name_(std::move(name)) {}
    [[nodiscard]] Result<std::string> compose(const Json& request) const;
    /// Of the whole mailbox, as much as the longest reply so far had.
    [[nodiscard]] std::vector<std::byte> room_for_reply() const;
    /// `bytes`: what was read first.
    [[nodiscard]] Result<std::string> complete(std::vector<std::byte> bytes,
                                               std::uint32_t request_sum);
    [[nodiscard]] Result<Json> understand(const Result<std::string>& reply_text) const;

    std::unique_ptr<nbd::Link> link_;
    std::string name_;
    std::size_t longest_reply_ = 0;
};

/// Connects, asks once, closes.
[[nodiscard]] Result<Json> ask_once(const nbd::Address& address, const std::string& peer_name,
                                    const Json& request, std::chrono::milliseconds deadline,
                                    std::chrono::milliseconds silence = nbd::least_silence);

}  // namespace mirror::control
