// SPDX-License-Identifier: BSD-3-Clause
// A server that says anything while our client shakes hands with it: plain, behind TLS with a key
// or with certificates, and in the place of TLS.
#include "core/nbd/client_handshake.hpp"

#include <chrono>
#include <string_view>

#include "input.hpp"
#include "memory_stream.hpp"
#include "tls_peer.hpp"

namespace mirror::fuzz {
namespace {

/// Greeting and the answer to STARTTLS; it hears flags and STARTTLS before TLS, too.
constexpr std::string_view begins_tls(
    "NBDMAGICIHAVEOPT\0\3\0\3\xE8\x89\4\x55\x65\xA9\0\0\0\5\0\0\0\1\0\0\0\0", 38);
constexpr std::size_t plain_request = 4 + 16;

/// Whether there is an export.
bool shake_hands(nbd::Stream& stream, const tls::Credentials* credentials) {
    const nbd::Patience patience{.until =
                                     std::chrono::steady_clock::now() + std::chrono::seconds(100)};
    nbd::ClientHandshake handshake(stream, "liar", credentials, "beta", patience);
    const Result<nbd::ExportFacts> facts = handshake.run("disk");
    if (!facts) {
        require(!facts.error().message.empty(), "a failure has a reason");
        return false;
    }
    require((credentials != nullptr) == (handshake.take_encrypted() != nullptr),
            "who wants TLS takes no export without it");
    return true;
}

}  // namespace

/// The first byte: without TLS, with it and bytes in the place of it, behind it with a key or with
/// certificates; how many bits are flipped on the way; whose certificate. The second: in which
/// pieces the rest arrives. Then the flips.
void client_handshake(Bytes bytes) {
    Input input(bytes);
    const auto kind = input.number<std::uint8_t>();
    const std::size_t piece = input.number<std::uint8_t>();
    Flips flips(input, kind >> 2U & 3U);
    const TlsNodes& nodes = tls_nodes((kind & 3U) == 3 ? TlsMode::x509 : TlsMode::psk);
    if ((kind & 2U) == 0) {
        MemoryStream stream(input.rest(), piece);
        (void)shake_hands(stream, (kind & 1U) != 0 ? nodes.alpha.get() : nullptr);
        return;
    }
    const tls::Credentials& who = nodes.who_accepts(kind >> 4U & 3U);
    auto session = who.accept();
    require(session.has_value(), "there is a server");
    TlsPeer stream(std::move(*session), input.rest(),
                   {.preface = begins_tls,
                    .plain = plain_request,
                    .piece = piece * 64,
                    .flips = std::move(flips)});
    require(!shake_hands(stream, nodes.alpha.get()) || &who == nodes.beta.get(),
            "nobody is taken for beta but beta");
}

}  // namespace mirror::fuzz
