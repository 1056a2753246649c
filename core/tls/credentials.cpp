// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/credentials.hpp"

#include <cstring>

#include "core/base/clock.hpp"
#include "core/tls/psk_file.hpp"
#include "core/tls/session_impl.hpp"
#include "core/tls/x509_files.hpp"

namespace mirror::tls {
namespace {

using Side = Session::Impl::Side;

// One version, authenticated ciphers, and a fresh key exchange whatever proves the identity.
constexpr const char* psk_priority =
    "NONE:+VERS-TLS1.3:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:+ECDHE-PSK:+DHE-PSK:"
    "+GROUP-X25519:+GROUP-SECP256R1:+GROUP-FFDHE2048:+SIGN-ALL:+COMP-NULL:+CTYPE-ALL";
constexpr const char* x509_priority =
    "SECURE128:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-ECDSA:"
    "+ECDHE-RSA:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:"
    "+CHACHA20-POLY1305";

Failure failed(std::string_view what, int status) {
    return fail(ErrorKind::invalid, "{}: {}", what, gnutls_strerror(status));
}

/// GnuTLS takes a copy that it frees.
bool copy_into(gnutls_datum_t& to, const Secret& bytes) noexcept {
    to.data = static_cast<unsigned char*>(gnutls_malloc(bytes.size()));
    if (to.data == nullptr) {
        return false;
    }
    std::memcpy(to.data, bytes.data(), bytes.size());
    to.size = static_cast<unsigned>(bytes.size());
    return true;
}

int find_key(gnutls_session_t session, const char* name, gnutls_datum_t* key) noexcept {
    const auto* impl = static_cast<const Session::Impl*>(gnutls_session_get_ptr(session));
    for (const PskKey& each : impl->keys) {
        if (each.name == name) {
            return copy_into(*key, each.secret) ? 0 : -1;
        }
    }
    return -1;
}

Result<void> use_as_server(Session::Impl& impl) {
    gnutls_psk_server_credentials_t raw = nullptr;
    if (const int status = gnutls_psk_allocate_server_credentials(&raw); status != 0) {
        return failed("TLS", status);
    }
    impl.psk_server.reset(raw);
    gnutls_psk_set_server_credentials_function(raw, find_key);
    return {};
}

Result<void> use_as_client(Session::Impl& impl) {
    gnutls_psk_client_credentials_t raw = nullptr;
    if (const int status = gnutls_psk_allocate_client_credentials(&raw); status != 0) {
        return failed("TLS", status);
    }
    impl.psk_client.reset(raw);
    const PskKey& key = impl.keys.front();
    gnutls_datum_t secret{};
    if (!copy_into(secret, key.secret)) {
        return failed("TLS", GNUTLS_E_MEMORY_ERROR);
    }
    const int status =
        gnutls_psk_set_client_credentials(raw, key.name.c_str(), &secret, GNUTLS_PSK_KEY_RAW);
    gnutls_memset(secret.data, 0, secret.size);
    gnutls_free(secret.data);
    return status == 0 ? Result<void>() : failed("TLS", status);
}

gnutls_datum_t datum_of(std::string& text) noexcept {
    return {reinterpret_cast<unsigned char*>(text.data()), static_cast<unsigned>(text.size())};
}

/// Those that one of `clients` may show; fails where nobody could come in.
Result<PskKeys> keys_for_server(const std::string& path, const std::string& server,
                                const std::vector<std::string>& clients) {
    auto keys = read_psk_file(path);
    if (!keys) {
        return keys;
    }
    PskKeys accepted = keys_accepted(std::move(*keys), server, clients);
    if (accepted.empty()) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} has no key from another node to {}", path, server),
                             "each node has a file of its own: mirrorctl keygen on one node makes "
                             "all of them, and says which goes where"});
    }
    return accepted;
}

Result<PskKey> key_for(const std::string& path, const Direction& direction) {
    const auto keys = read_psk_file(path);
    if (!keys) {
        return Failure(keys.error());
    }
    const PskKey* key = key_towards(*keys, direction);
    if (key == nullptr) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("{} has no key from {} to {}", path, direction.client, direction.server),
            fmt::format("if {0} is to be a peer: mirrorctl keygen --add --with {0}",
                        direction.server)});
    }
    return *key;
}

}  // namespace

std::shared_ptr<const Credentials> Credentials::of(const Config& config, const std::string& node) {
    if (config.tls.mode == TlsMode::off) {
        return nullptr;
    }
    std::vector<std::string> others;
    for (const auto& [name, each] : config.nodes) {
        if (name != node) {
            others.push_back(name);
        }
    }
    return std::shared_ptr<const Credentials>(new Credentials(config.tls, node, std::move(others)));
}

Result<Session> Credentials::accept() const {
    auto impl = std::make_unique<Session::Impl>(Side::server);
    impl->names = nodes_;
    return start(std::move(impl));
}

Result<Session> Credentials::dial(const std::string& node) const {
    auto impl = std::make_unique<Session::Impl>(Side::client);
    impl->names = {node};
    return start(std::move(impl));
}

Result<Session> Credentials::start(std::unique_ptr<Session::Impl> impl) const {
    const bool is_server = impl->side == Side::server;
    gnutls_session_t raw = nullptr;
    // Tickets would let a session go on that its key no longer lets in.
    const unsigned flags =
        GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | (is_server ? GNUTLS_SERVER : GNUTLS_CLIENT);
    if (const int status = gnutls_init(&raw, flags); status != 0) {
        return failed("TLS", status);
    }
    impl->session.reset(raw);
    Result<void> ready;
    if (config_.mode == TlsMode::psk) {
        auto keys =
            is_server
                ? keys_for_server(config_.psk_file, node_, nodes_)
                : key_for(config_.psk_file, {node_, impl->names.front()}).map([](PskKey&& key) {
                      return PskKeys{std::move(key)};
                  });
        if (!keys) {
            return Failure(keys.error());
        }
        impl->keys = std::move(*keys);
        ready = is_server ? use_as_server(*impl) : use_as_client(*impl);
    } else {
        ready = load_certificates(*impl);
    }
    if (!ready) {
        return Failure(ready.error());
    }
    void* const credentials = impl->certificates ? static_cast<void*>(impl->certificates.get())
                              : impl->psk_server ? static_cast<void*>(impl->psk_server.get())
                                                 : static_cast<void*>(impl->psk_client.get());
    int status = gnutls_credentials_set(
        raw, impl->certificates ? GNUTLS_CRD_CERTIFICATE : GNUTLS_CRD_PSK, credentials);
    if (status == 0) {
        status = gnutls_priority_set_direct(raw, impl->certificates ? x509_priority : psk_priority,
                                            nullptr);
    }
    return status == 0 ? Result<Session>(Session(std::move(impl))) : failed("TLS", status);
}

Result<std::string> Credentials::name_towards(const std::string& node) const {
    if (config_.mode == TlsMode::x509) {
        return node_;
    }
    return key_for(config_.psk_file, {node_, node}).map([](const PskKey& key) { return key.name; });
}

Result<void> Credentials::load_certificates(Session::Impl& impl) const {
    auto files = read_x509_files(config_, node_, system_clock().wall_now());
    if (!files) {
        return Failure(files.error());
    }
    gnutls_certificate_credentials_t raw = nullptr;
    if (const int status = gnutls_certificate_allocate_credentials(&raw); status != 0) {
        return failed("TLS", status);
    }
    impl.certificates.reset(raw);
    const std::string& folder = config_.x509_dir;
    const gnutls_datum_t ca = datum_of(files->ca);
    if (const int count = gnutls_certificate_set_x509_trust_mem(raw, &ca, GNUTLS_X509_FMT_PEM);
        count <= 0) {
        return count == 0 ? fail(ErrorKind::invalid, "{}/ca-cert.pem has no certificate", folder)
                          : failed(folder + "/ca-cert.pem", count);
    }
    const gnutls_datum_t certificate = datum_of(files->certificate);
    const gnutls_datum_t key = datum_of(files->key);
    const int status =
        gnutls_certificate_set_x509_key_mem(raw, &certificate, &key, GNUTLS_X509_FMT_PEM);
    gnutls_memset(files->key.data(), 0, files->key.size());
    if (status < 0) {
        return failed(fmt::format("{0}/{1}-cert.pem and {0}/{1}-key.pem", folder, node_), status);
    }
    if (files->revoked) {
        const gnutls_datum_t crl = datum_of(*files->revoked);
        if (const int count = gnutls_certificate_set_x509_crl_mem(raw, &crl, GNUTLS_X509_FMT_PEM);
            count < 0) {
            return failed(folder + "/ca-crl.pem", count);
        }
    }
    if (impl.side == Side::server) {
        gnutls_certificate_server_set_request(impl.session.get(), GNUTLS_CERT_REQUIRE);
    }
    gnutls_session_set_verify_function(impl.session.get(), verify_certificate);
    return {};
}

std::string Credentials::fault_of_crl() const {
    if (config_.mode != TlsMode::x509) {
        return {};
    }
    const WallTime now = system_clock().wall_now();
    const auto files = read_x509_files(config_, node_, now);
    return files ? tls::fault_of_crl(config_, *files, now) : std::string();
}

Result<std::vector<std::string>> Credentials::names() const {
    if (config_.mode == TlsMode::x509) {
        return std::vector<std::string>{node_};
    }
    return read_psk_file(config_.psk_file).map([](const PskKeys& keys) {
        std::vector<std::string> names;
        for (const PskKey& key : keys) {
            names.push_back(key.name);
        }
        return names;
    });
}

}  // namespace mirror::tls
