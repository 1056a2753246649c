// SPDX-License-Identifier: BSD-3-Clause
// The other end of an encrypted connection, without a socket: client or server, with a key or with
// certificates of a CA that is made for it.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "core/nbd/stream.hpp"
#include "core/tls/credentials.hpp"
#include "input.hpp"

namespace mirror::fuzz {

/// Of the nodes alpha, who dials, and beta, who accepts.
struct TlsNodes {
    std::shared_ptr<const tls::Credentials> alpha;
    std::shared_ptr<const tls::Credentials> beta;
    /// With certificates: a node of the same authority that is neither, and one with alpha's and
    /// beta's names of another authority.
    std::shared_ptr<const tls::Credentials> gamma{};
    std::shared_ptr<const tls::Credentials> false_alpha{};
    std::shared_ptr<const tls::Credentials> false_beta{};

    /// With whose certificate alpha or beta comes: 1 gamma's, more one of the other authority.
    [[nodiscard]] const tls::Credentials& who_dials(unsigned whose) const {
        return *(gamma == nullptr || whose == 0 ? alpha : whose == 1 ? gamma : false_alpha);
    }
    [[nodiscard]] const tls::Credentials& who_accepts(unsigned whose) const {
        return *(gamma == nullptr || whose == 0 ? beta : whose == 1 ? gamma : false_beta);
    }
};
[[nodiscard]] const TlsNodes& tls_nodes(TlsMode mode);

/// Until both are done.
void establish(tls::Session& client, tls::Session& server);

/// Bits that are flipped while they are on the way.
class Flips {
  public:
    /// Up to three, from the input.
    Flips(Input& input, std::size_t count);
    /// Of what comes next.
    void apply(std::span<std::byte> bytes) noexcept;

  private:
    struct Flip {
        std::size_t at;
        std::byte bits;
    };
    std::vector<Flip> flips_;
    std::size_t seen_ = 0;
};

class TlsPeer final : public nbd::Stream {
  public:
    /// Says `preface` before TLS and hears `plain` bytes before it, then says `words` behind it, in
    /// pieces; piece 0: in the place of it. The flips are of what it says in TLS.
    struct Habits {
        std::string_view preface;
        std::size_t plain = 0;
        std::size_t piece = 0;
        Flips flips;
    };
    TlsPeer(tls::Session session, Bytes words, Habits habits);

    Result<std::size_t> recv_some(std::span<std::byte> into, const nbd::Patience&) override;
    Result<void> send_all(std::span<const std::byte> from, const nbd::Patience&) override;
    void shutdown() noexcept override { ended_ = true; }

  private:
    void say(std::span<const std::byte> bytes);
    void flush();
    void listen();
    void go_on();

    tls::Session session_;
    Bytes words_;
    Habits habits_;
    std::vector<std::byte> on_the_way_;
    std::vector<std::byte> heard_;
    bool established_ = false;
    bool ended_ = false;
};

}  // namespace mirror::fuzz
