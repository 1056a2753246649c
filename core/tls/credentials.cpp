// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/credentials.hpp"

#include <cerrno>
#include <cstring>
#include <sys/stat.h>
#include <unistd.h>

#include "core/tls/session_impl.hpp"

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
bool copy_into(gnutls_datum_t& to, const std::vector<std::byte>& bytes) noexcept {
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

Result<void> require_readable(const std::string& path, bool is_secret) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || ::access(path.c_str(), R_OK) != 0) {
        return fail_errno(errno, path,
                          "x509_dir needs ca-cert.pem, NODE-cert.pem and NODE-key.pem: see "
                          "mirrordisk.toml(5)");
    }
    if (is_secret && (status.st_mode & 077) != 0) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} can be read or written by others (mode {:04o})", path,
                                         status.st_mode & 07777),
                             fmt::format("run: chmod 600 {}", path)});
    }
    return {};
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
        auto keys = read_psk_file(config_.psk_file);
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

Result<void> Credentials::load_certificates(Session::Impl& impl) const {
    const std::string ca = config_.x509_dir + "/ca-cert.pem";
    const std::string revoked = config_.x509_dir + "/ca-crl.pem";
    const std::string certificate = fmt::format("{}/{}-cert.pem", config_.x509_dir, node_);
    const std::string key = fmt::format("{}/{}-key.pem", config_.x509_dir, node_);
    for (const auto& [path, is_secret] :
         {std::pair(&ca, false), {&certificate, false}, {&key, true}}) {
        if (auto readable = require_readable(*path, is_secret); !readable) {
            return readable;
        }
    }
    gnutls_certificate_credentials_t raw = nullptr;
    if (const int status = gnutls_certificate_allocate_credentials(&raw); status != 0) {
        return failed("TLS", status);
    }
    impl.certificates.reset(raw);
    if (const int count =
            gnutls_certificate_set_x509_trust_file(raw, ca.c_str(), GNUTLS_X509_FMT_PEM);
        count <= 0) {
        return count == 0 ? fail(ErrorKind::invalid, "{} has no certificate", ca)
                          : failed(ca, count);
    }
    if (const int status = gnutls_certificate_set_x509_key_file(raw, certificate.c_str(),
                                                                key.c_str(), GNUTLS_X509_FMT_PEM);
        status < 0) {
        return failed(fmt::format("{} and {}", certificate, key), status);
    }
    if (::access(revoked.c_str(), F_OK) == 0) {
        if (const int status =
                gnutls_certificate_set_x509_crl_file(raw, revoked.c_str(), GNUTLS_X509_FMT_PEM);
            status < 0) {
            return failed(revoked, status);
        }
    }
    if (impl.side == Side::server) {
        gnutls_certificate_server_set_request(impl.session.get(), GNUTLS_CERT_REQUIRE);
    }
    gnutls_session_set_verify_function(impl.session.get(), verify_certificate);
    return {};
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
