// SPDX-License-Identifier: BSD-3-Clause
// One TLS 1.3 connection without a socket: bytes of the network go in and come out through two
// buffers, so that the blocking server and the link's event thread can use the same code, and tests
// and fuzzers need no network. Made by Credentials; nothing is trusted before handshake() is done.
//
// Not thread-safe. Never waits. An error is final. Buffers are bounded: what comes in by
// input_space(), what goes out by how much the caller lets pile up before it takes output().
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.hpp"

namespace mirror::tls {

/// What the other side showed: kept, since it may be revoked, and expire.
struct Chain {
    std::vector<std::vector<std::byte>> certificates;  ///< DER, its own first
    std::string purpose;                               ///< what they must be for (an OID)
};

/// What the handshake has shown. Whether it would still be enough: core/tls/standing.hpp.
struct Proof {
    std::string key{};  ///< the pre-shared key's name; empty with certificates
    /// That the certificate is for, or the key of two nodes; empty with a key of the cluster.
    std::string node{};
    std::string cipher{};
    /// SHA-256 of the key's name and secret, or of the certificates. Two keys of one name differ.
    std::string digest{};
    std::shared_ptr<const Chain> chain{};  ///< null with a key
};

class Session {
  public:
    struct Impl;
    explicit Session(std::unique_ptr<Impl> impl) noexcept;
    Session(Session&&) noexcept;
    Session& operator=(Session&&) noexcept;
    ~Session();

    enum class Progress { done, needs_input };
    /// A step; take output() and bring input after each. When it fails, output() has the alert
    /// that tells the other side.
    [[nodiscard]] Result<Progress> handshake();
    /// After the handshake.
    [[nodiscard]] const Proof& proof() const noexcept;

    /// Where to put what the network has brought; never empty unless input was not taken by the
    /// calls that read it.
    [[nodiscard]] std::span<std::byte> input_space();
    void input_filled(std::size_t count) noexcept;
    /// The other side has closed its socket.
    void input_ended() noexcept;

    /// 0: more input is needed, or is_ended(). When it fails, output() has the alert.
    [[nodiscard]] Result<std::size_t> receive(std::span<std::byte> into);
    /// The other side said that nothing more comes. A connection that was only cut is an error.
    [[nodiscard]] bool is_ended() const noexcept;

    [[nodiscard]] Result<void> send(std::span<const std::byte> from);
    [[nodiscard]] std::span<const std::byte> output() const noexcept;
    void output_taken(std::size_t count) noexcept;
    /// Adds to output() that nothing more comes.
    void say_goodbye() noexcept;

  private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace mirror::tls
