// SPDX-License-Identifier: BSD-3-Clause
// What is inside a Session: GnuTLS's object, what it refers to, and the two buffers. For
// session.cpp and credentials.cpp, which fills it in.
#pragma once

#include <optional>
#include <gnutls/gnutls.h>
#include <string>
#include <vector>

#include "core/tls/psk_file.hpp"
#include "core/tls/session.hpp"

namespace mirror::tls {

template <auto release>
struct Release {
    template <typename Object>
    void operator()(Object* object) const noexcept {
        release(object);
    }
};
template <typename Handle, auto release>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Release<release>>;

using Certificates = Owned<gnutls_certificate_credentials_t, gnutls_certificate_free_credentials>;
using PskClient = Owned<gnutls_psk_client_credentials_t, gnutls_psk_free_client_credentials>;
using PskServer = Owned<gnutls_psk_server_credentials_t, gnutls_psk_free_server_credentials>;

struct Session::Impl {
    enum class Side { client, server };

    explicit Impl(Side which) noexcept : side(which) {}
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    const Side side;
    // Before `session`, which refers to them.
    Certificates certificates;
    PskClient psk_client;
    PskServer psk_server;
    PskKeys keys;                    ///< what the server accepts, or the one that is used
    std::vector<std::string> names;  ///< for whom the other side's certificate may be
    std::string verdict;             ///< why the certificate was refused
    Owned<gnutls_session_t, gnutls_deinit> session;

    /// Not cleared: pages that are never used cost nothing.
    std::unique_ptr<std::byte[]> input;
    std::size_t input_size = 0;
    std::size_t input_begin = 0;
    std::size_t input_end = 0;
    bool no_more_input = false;
    std::vector<std::byte> output;
    std::size_t output_begin = 0;
    bool is_established = false;
    bool is_ended = false;
    std::optional<Error> failure;  ///< of receiving; what came before it is delivered first
    Proof proof;
};

/// Judges the other side's certificate chain and sets proof.node, or verdict.
int verify_certificate(gnutls_session_t session) noexcept;

}  // namespace mirror::tls
