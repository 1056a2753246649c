// SPDX-License-Identifier: BSD-3-Clause
// The first part of a connection: greeting and options, up to an open export. Everything here is
// said by a stranger, so lengths are checked, the number of options is limited and one deadline
// holds for the whole. Lives on the connection's thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/nbd/export.hpp"
#include "core/nbd/stream.hpp"
#include "core/nbd/tls_stream.hpp"
#include "core/nbd/wire.hpp"
#include "core/tls/credentials.hpp"

namespace mirror::nbd {

/// What a handshake leads to.
struct Negotiated {
    std::unique_ptr<TlsStream> encrypted;  ///< over the connection's stream; null: that itself
    std::unique_ptr<Export> exported;
    Traits traits;
    bool structured_replies = false;
    bool allocation = false;  ///< base:allocation was chosen, with context_id
};

/// The one metadata context's number in replies to BLOCK_STATUS.
inline constexpr std::uint32_t context_id = 1;

/// The connection's place in the server's limits, as the handshake sees it.
class Admission {
  public:
    virtual ~Admission() = default;
    /// Takes a place among the connections that have an export; false if there is none left.
    /// `proof` is what the client has shown; null: it did not come over TLS.
    [[nodiscard]] virtual bool enter(const tls::Proof* proof) = 0;
    virtual void leave() noexcept = 0;
    /// TLS did not come about, for which the reason is told to people here.
    virtual void failed_to_prove(const Client& client, const Error& error) = 0;
    /// For ExportProvider::open.
    [[nodiscard]] virtual std::function<void()> shutdown() = 0;
};

class Handshake {
  public:
    /// With `tls` nothing is answered before STARTTLS but that it is wanted; without it there is
    /// no TLS.
    Handshake(Stream& stream, ExportProvider& provider, Admission& admission, const Client& client,
              const tls::Credentials* tls, std::chrono::milliseconds timeout);

    /// An error for every other end: the client left, ran out of time, broke the protocol.
    [[nodiscard]] Result<Negotiated> run();

  private:
    enum class Step { next_option, transmit };
    using Bytes = std::vector<std::byte>;

    [[nodiscard]] Result<void> greet();
    [[nodiscard]] Result<Option> receive_option();
    [[nodiscard]] Result<Step> answer(Option option);
    [[nodiscard]] Result<Step> answer_export_name();
    [[nodiscard]] Result<Step> answer_go(Option option);
    [[nodiscard]] Result<Step> answer_list();
    [[nodiscard]] Result<Step> answer_structured_reply();
    [[nodiscard]] Result<Step> answer_starttls();
    [[nodiscard]] Result<Step> answer_plain(Option option);
    [[nodiscard]] Stream& stream() noexcept;
    [[nodiscard]] Result<Step> answer_meta_context(Option option);

    [[nodiscard]] Result<void> open(const std::string& name);
    void close();
    [[nodiscard]] std::uint16_t transmission_flags() const;

    void add_reply(Option option, OptionReply type, std::span<const std::byte> data);
    void add_info(Option option, Info info);
    [[nodiscard]] Result<void> send_pending();
    [[nodiscard]] Result<Step> reply(Option option, OptionReply type, std::string_view text = {});

    Stream& stream_;
    ExportProvider& provider_;
    Admission& admission_;
    Client client_;
    const tls::Credentials* const tls_;
    const std::chrono::milliseconds timeout_;
    Patience patience_;

    bool no_zeroes_ = false;
    Bytes data_;     ///< of the option at hand
    Bytes pending_;  ///< replies not sent yet

    /// Opened by the first option that needs to know an export and kept for the ones that follow,
    /// so that a connection opens its export once.
    std::string name_;
    Negotiated negotiated_;
    /// The export that contexts were chosen for; proto.md: they hold for no other.
    std::string context_name_;
    bool context_chosen_ = false;
};

}  // namespace mirror::nbd
