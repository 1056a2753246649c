// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/x509_files.hpp"

#include <ctime>
#include <gnutls/x509.h>

#include "core/base/trusted_file.hpp"
#include "core/tls/session_impl.hpp"

namespace mirror::tls {
namespace {

constexpr std::size_t longest_file = std::size_t{1} << 20;
/// A CRL of a large CA has an entry for each certificate that was revoked.
constexpr std::size_t longest_crl = std::size_t{16} << 20;

using Crl = Owned<gnutls_x509_crl_t, gnutls_x509_crl_deinit>;

Result<std::string> read_needed(const std::string& path, Secrecy secrecy) {
    auto text = read_trusted_file(path, longest_file, secrecy);
    if (!text && text.error().remedy.empty()) {
        text.error().remedy =
            "x509_dir needs ca-cert.pem, NODE-cert.pem and NODE-key.pem: see mirrordisk.toml(5)";
    }
    return text;
}

Result<std::optional<std::string>> read_crl(const std::string& path) {
    auto text = read_trusted_file(path, longest_crl);
    if (!text) {
        return text.error().kind == ErrorKind::not_found
                   ? Result<std::optional<std::string>>(std::nullopt)
                   : Failure(text.error());
    }
    return std::optional(std::move(*text));
}

std::string crl_path(const TlsConfig& config) {
    return config.x509_dir + "/ca-crl.pem";
}

std::string day_of(std::time_t time) {
    std::tm parts{};
    std::string text(sizeof "2026-01-01", '\0');
    text.resize(::gmtime_r(&time, &parts) == nullptr
                    ? 0
                    : std::strftime(text.data(), text.size(), "%Y-%m-%d", &parts));
    return text;
}

}  // namespace

std::string fault_of_crl(const TlsConfig& config, const X509Files& files, WallTime now) {
    if (!files.revoked) {
        return {};
    }
    const std::string path = crl_path(config);
    gnutls_x509_crl_t raw = nullptr;
    if (gnutls_x509_crl_init(&raw) != 0) {
        return path + ": no memory";
    }
    const Crl crl(raw);
    // GnuTLS only reads it, and has no const.
    std::string text = *files.revoked;
    const gnutls_datum_t data{reinterpret_cast<unsigned char*>(text.data()),
                              static_cast<unsigned>(text.size())};
    if (const int status = gnutls_x509_crl_import(raw, &data, GNUTLS_X509_FMT_PEM); status != 0) {
        return fmt::format("{}: {}", path, gnutls_strerror(status));
    }
    const std::time_t next = gnutls_x509_crl_get_next_update(raw);
    if (next == std::time_t{-1} || next >= std::chrono::system_clock::to_time_t(now)) {
        return {};
    }
    return fmt::format(
        "{} is out of date: a newer list was due on {}, and certificates that were "
        "revoked since are not in it; copy the CA's current list there",
        path, day_of(next));
}

Result<X509Files> read_x509_files(const TlsConfig& config, const std::string& node, WallTime now) {
    auto ca = read_needed(config.x509_dir + "/ca-cert.pem", Secrecy::open);
    if (!ca) {
        return Failure(ca.error());
    }
    auto certificate =
        read_needed(fmt::format("{}/{}-cert.pem", config.x509_dir, node), Secrecy::open);
    if (!certificate) {
        return Failure(certificate.error());
    }
    auto key = read_needed(fmt::format("{}/{}-key.pem", config.x509_dir, node), Secrecy::secret);
    if (!key) {
        return Failure(key.error());
    }
    auto revoked = read_crl(crl_path(config));
    if (!revoked) {
        return Failure(revoked.error());
    }
    X509Files files{std::move(*ca), std::move(*certificate), std::move(*key), std::move(*revoked)};
    if (!config.crl_required) {
        return files;
    }
    if (!files.revoked) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} is missing, and crl_required is true", crl_path(config)),
                  "copy the CA's list of revoked certificates there"});
    }
    if (const std::string fault = fault_of_crl(config, files, now); !fault.empty()) {
        return fail(ErrorKind::refused, "{} (crl_required is true)", fault);
    }
    return files;
}

}  // namespace mirror::tls
