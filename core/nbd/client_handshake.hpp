// SPDX-License-Identifier: BSD-3-Clause
// The client's side of the first part of a connection: greeting, TLS where it is wanted, and GO.
// Everything that the server says is checked and bounded; one deadline holds for the whole. Used by
// dial.cpp, in its caller's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/error.hpp"
#include "core/nbd/stream.hpp"
#include "core/nbd/tls_stream.hpp"
#include "core/nbd/wire.hpp"
#include "core/tls/credentials.hpp"

namespace mirror::nbd {

/// What the server says of the export.
struct ExportFacts {
    std::uint64_t size = 0;
    std::uint16_t flags = 0;          ///< transmission_flag
    std::uint32_t minimum_block = 1;  ///< bytes
};

class ClientHandshake {
  public:
    /// `who` is for messages. `credentials` null: no TLS; else it is that or nothing, and the
    /// server must be `node`.
    ClientHandshake(Stream& stream, std::string who, const tls::Credentials* credentials,
                    std::string node, Patience patience)
        : stream_(stream),
          who_(std::move(who)),
          credentials_(credentials),
          node_(std::move(node)),
          patience_(patience) {}

    /// Kinds of failure: as for Link::connect.
    [[nodiscard]] Result<ExportFacts> run(const std::string& export_name);
    /// After run(); null without TLS.
    [[nodiscard]] std::unique_ptr<TlsStream> take_encrypted() noexcept {
        return std::move(encrypted_);
    }

  private:
    struct Reply;

    [[nodiscard]] Stream& stream() noexcept;
    [[nodiscard]] Result<void> greet();
    [[nodiscard]] Result<void> begin_tls();
    [[nodiscard]] Result<ExportFacts> go(const std::string& export_name);
    [[nodiscard]] Result<void> send_option(Option option, std::span<const std::byte> data);
    [[nodiscard]] Result<Reply> receive_reply(Option option);
    [[nodiscard]] Result<void> receive(std::span<std::byte> into);
    [[nodiscard]] Result<void> send(std::span<const std::byte> bytes);
    [[nodiscard]] Failure broken(std::string_view what) const;
    [[nodiscard]] Error in_words(const Error& error, std::string_view step) const;

    Stream& stream_;
    const std::string who_;
    const tls::Credentials* const credentials_;
    const std::string node_;
    const Patience patience_;
    std::unique_ptr<TlsStream> encrypted_;
};

}  // namespace mirror::nbd
