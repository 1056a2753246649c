// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/session.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "core/base/units.hpp"
#include "core/tls/session_impl.hpp"

namespace mirror::tls {
namespace {

/// A stranger gets no more memory than a handshake needs.
constexpr std::size_t handshake_input = 20 * KiB;
/// Several records, so that a busy connection needs few calls of the kernel.
constexpr std::size_t data_input = 256 * KiB;

Session::Impl& impl_of(gnutls_transport_ptr_t pointer) noexcept {
    return *static_cast<Session::Impl*>(pointer);
}

ssize_t pull(gnutls_transport_ptr_t pointer, void* into, std::size_t most) noexcept {
    Session::Impl& impl = impl_of(pointer);
    const std::size_t have = impl.input_end - impl.input_begin;
    if (have == 0) {
        if (impl.no_more_input) {
            return 0;
        }
        gnutls_transport_set_errno(impl.session.get(), EAGAIN);
        return -1;
    }
    const std::size_t count = std::min(have, most);
    std::memcpy(into, impl.input.get() + impl.input_begin, count);
    impl.input_begin += count;
    return static_cast<ssize_t>(count);
}

int pull_timeout(gnutls_transport_ptr_t pointer, unsigned) noexcept {
    const Session::Impl& impl = impl_of(pointer);
    return impl.input_begin < impl.input_end || impl.no_more_input ? 1 : 0;
}

ssize_t push(gnutls_transport_ptr_t pointer, const void* from, std::size_t count) noexcept {
    Session::Impl& impl = impl_of(pointer);
    try {
        const auto* bytes = static_cast<const std::byte*>(from);
        impl.output.insert(impl.output.end(), bytes, bytes + count);
    } catch (const std::bad_alloc&) {
        gnutls_transport_set_errno(impl.session.get(), ENOMEM);
        return -1;
    }
    return static_cast<ssize_t>(count);
}

/// An alert says little on purpose. What it most likely means here is more use to a person.
Error refusal_by_other_side(const Session::Impl& impl) {
    const auto alert = gnutls_alert_get(impl.session.get());
    const char* name = gnutls_alert_get_name(alert);
    Error error{ErrorKind::refused, fmt::format("it refused this node's side of TLS ({})",
                                                name != nullptr ? name : "unknown alert")};
    if (alert == GNUTLS_A_BAD_RECORD_MAC && impl.is_established) {
        error.kind = ErrorKind::corrupt;
        error.message = "what was sent was altered in transit; it was discarded there";
    } else if (impl.psk_client && !impl.is_established) {
        error.message = fmt::format("it does not know the key '{}'", impl.keys.front().name);
        error.remedy = "put the same file of keys on both nodes: mirrorctl check names it";
    } else if (impl.certificates) {
        error.remedy =
            "both nodes' certificates must be of the same CA, in force, for use by servers and "
            "clients, and have the node's name in the config as DNS name";
    }
    return error;
}

Error error_of(const Session::Impl& impl, int status) {
    if (!impl.verdict.empty()) {
        return {ErrorKind::refused, impl.verdict,
                "the certificate must be of the CA in x509_dir, in force, and have the node's name "
                "in the config as DNS name"};
    }
    if (status == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        return refusal_by_other_side(impl);
    }
    if (status == GNUTLS_E_DECRYPTION_FAILED) {
        return {ErrorKind::corrupt, "what arrived was altered in transit; it was discarded",
                "check the network cards, cables and switches between the nodes, and who else has "
                "access to them"};
    }
    if (status == GNUTLS_E_PREMATURE_TERMINATION) {
        return {ErrorKind::unreachable, "the connection was cut"};
    }
    Error error{ErrorKind::protocol, fmt::format("TLS: {}", gnutls_strerror(status))};
    if (impl.side == Session::Impl::Side::server && !impl.is_established && impl.psk_server) {
        error.kind = ErrorKind::refused;
        error.remedy = "the other side may have another key: put the same file on both nodes";
    }
    return error;
}

void note_key(Session::Impl& impl, const std::string& name) {
    const auto used = std::find_if(impl.keys.begin(), impl.keys.end(),
                                   [&](const PskKey& key) { return key.name == name; });
    if (used != impl.keys.end()) {
        impl.proof.key = name;
        impl.proof.digest = digest_of(*used);
        if (const auto direction = direction_of(name)) {
            impl.proof.node = impl.psk_server ? direction->client : direction->server;
        }
    }
}

void note_proof(Session::Impl& impl) {
    gnutls_session_t session = impl.session.get();
    if (impl.psk_server) {
        const char* user = gnutls_psk_server_get_username(session);
        note_key(impl, user != nullptr ? user : "");
    } else if (impl.psk_client) {
        note_key(impl, impl.keys.front().name);
    }
    const char* cipher = gnutls_cipher_get_name(gnutls_cipher_get(session));
    impl.proof.cipher = cipher != nullptr ? cipher : "";
}

/// What the priorities allow already; a library that sees it otherwise must not let anybody in.
bool is_what_was_asked_for(const Session::Impl& impl) noexcept {
    gnutls_session_t session = impl.session.get();
    const auto wanted = impl.certificates ? GNUTLS_CRD_CERTIFICATE : GNUTLS_CRD_PSK;
    const bool has_proof = impl.certificates ? !impl.proof.node.empty() : !impl.proof.key.empty();
    return gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 &&
           gnutls_auth_get_type(session) == wanted && has_proof && !impl.proof.digest.empty();
}

/// A session of keys that were agreed on needs no other: one that is retired is to be nowhere.
void forget_keys(Session::Impl& impl) noexcept {
    impl.keys.clear();
    if (!impl.certificates) {
        gnutls_credentials_clear(impl.session.get());
        impl.psk_client.reset();
        impl.psk_server.reset();
    }
}

}  // namespace

Session::Session(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {
    gnutls_session_t session = impl_->session.get();
    gnutls_session_set_ptr(session, impl_.get());
    gnutls_transport_set_ptr(session, impl_.get());
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    gnutls_transport_set_push_function(session, push);
    gnutls_handshake_set_max_packet_length(session, 64 * KiB);
}

Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<Session::Progress> Session::handshake() {
    const int status = gnutls_handshake(impl_->session.get());
    if (status == GNUTLS_E_SUCCESS) {
        note_proof(*impl_);
        if (!is_what_was_asked_for(*impl_)) {
            return fail(ErrorKind::refused, "TLS: the other side did not prove its identity");
        }
        impl_->is_established = true;
        forget_keys(*impl_);
        return Progress::done;
    }
    if (gnutls_error_is_fatal(status) == 0) {
        return Progress::needs_input;
    }
    Error error = error_of(*impl_, status);
    (void)gnutls_alert_send_appropriate(impl_->session.get(), status);
    return Failure(std::move(error));
}

const Proof& Session::proof() const noexcept {
    return impl_->proof;
}

std::span<std::byte> Session::input_space() {
    Impl& impl = *impl_;
    const std::size_t wanted = impl.is_established ? data_input : handshake_input;
    const std::size_t left = impl.input_end - impl.input_begin;
    if (impl.input_size < wanted) {
        auto larger = std::make_unique_for_overwrite<std::byte[]>(wanted);
        if (left > 0) {
            std::memcpy(larger.get(), impl.input.get() + impl.input_begin, left);
        }
        impl.input = std::move(larger);
        impl.input_size = wanted;
    } else if (left > 0 && impl.input_begin > 0) {
        std::memmove(impl.input.get(), impl.input.get() + impl.input_begin, left);
    }
    impl.input_begin = 0;
    impl.input_end = left;
    return {impl.input.get() + left, impl.input_size - left};
}

void Session::input_filled(std::size_t count) noexcept {
    impl_->input_end += count;
}

void Session::input_ended() noexcept {
    impl_->no_more_input = true;
}

Result<std::size_t> Session::receive(std::span<std::byte> into) {
    std::size_t have = 0;
    while (have < into.size() && !impl_->is_ended && !impl_->failure) {
        const ssize_t got =
            gnutls_record_recv(impl_->session.get(), into.data() + have, into.size() - have);
        if (got > 0) {
            have += static_cast<std::size_t>(got);
        } else if (got == 0) {
            impl_->is_ended = true;
        } else if (got == GNUTLS_E_AGAIN) {
            break;
        } else if (gnutls_error_is_fatal(static_cast<int>(got)) != 0) {
            impl_->failure = error_of(*impl_, static_cast<int>(got));
            if (got != GNUTLS_E_FATAL_ALERT_RECEIVED) {
                (void)gnutls_alert_send_appropriate(impl_->session.get(), static_cast<int>(got));
            }
            break;
        }
    }
    if (have == 0 && impl_->failure) {
        return Failure(*impl_->failure);
    }
    return have;
}

bool Session::is_ended() const noexcept {
    return impl_->is_ended;
}

Result<void> Session::send(std::span<const std::byte> from) {
    while (!from.empty()) {
        const ssize_t sent = gnutls_record_send(impl_->session.get(), from.data(), from.size());
        if (sent >= 0) {
            from = from.subspan(static_cast<std::size_t>(sent));
        } else if (sent != GNUTLS_E_AGAIN && sent != GNUTLS_E_INTERRUPTED) {
            return Failure(error_of(*impl_, static_cast<int>(sent)));
        }
    }
    return {};
}

std::span<const std::byte> Session::output() const noexcept {
    return std::span(impl_->output).subspan(impl_->output_begin);
}

void Session::output_taken(std::size_t count) noexcept {
    impl_->output_begin += count;
    if (impl_->output_begin == impl_->output.size()) {
        impl_->output.clear();
        impl_->output_begin = 0;
    }
}

void Session::say_goodbye() noexcept {
    if (impl_->is_established) {
        (void)gnutls_bye(impl_->session.get(), GNUTLS_SHUT_WR);
    }
}

}  // namespace mirror::tls
