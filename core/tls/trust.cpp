// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/trust.hpp"

#include <array>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string>
#include <vector>

#include "core/base/trusted_file.hpp"
#include "core/tls/session_impl.hpp"

namespace mirror::tls {
namespace {

using Certificate = Owned<gnutls_x509_crt_t, gnutls_x509_crt_deinit>;

void release_list(gnutls_x509_trust_list_t list) {
    gnutls_x509_trust_list_deinit(list, 1);
}
using TrustList = Owned<gnutls_x509_trust_list_t, release_list>;

constexpr std::size_t longest_file = 4 << 20;  // a list of revoked certificates can be long

gnutls_datum_t datum_of(std::string& text) noexcept {
    return {reinterpret_cast<unsigned char*>(text.data()), static_cast<unsigned>(text.size())};
}

Result<void> added(int count, const std::string& path) {
    if (count < 0) {
        return fail(ErrorKind::invalid, "{}: {}", path, gnutls_strerror(count));
    }
    return count > 0 ? Result<void>() : fail(ErrorKind::invalid, "{} has nothing in it", path);
}

Result<void> add_authority(gnutls_x509_trust_list_t list, const std::string& path) {
    auto text = read_trusted_file(path, longest_file);
    if (!text) {
        return Failure(text.error());
    }
    const gnutls_datum_t datum = datum_of(*text);
    return added(
        gnutls_x509_trust_list_add_trust_mem(list, &datum, nullptr, GNUTLS_X509_FMT_PEM, 0, 0),
        path);
}

/// A newer one may forbid what an older one allowed, so none is never taken for an empty one.
Result<void> add_revocations(gnutls_x509_trust_list_t list, const std::string& path) {
    auto text = read_trusted_file(path, longest_file);
    if (!text) {
        return text.error().kind == ErrorKind::not_found ? Result<void>() : Failure(text.error());
    }
    const gnutls_datum_t datum = datum_of(*text);
    return added(
        gnutls_x509_trust_list_add_trust_mem(list, nullptr, &datum, GNUTLS_X509_FMT_PEM, 0, 0),
        path);
}

}  // namespace

struct Trust::Impl {
    TrustList list;
};

Trust::Trust() : impl_(std::make_unique<Impl>()) {}
Trust::~Trust() = default;
Trust::Trust(Trust&&) noexcept = default;
Trust& Trust::operator=(Trust&&) noexcept = default;

Result<Trust> Trust::load(const std::string& x509_dir) {
    gnutls_x509_trust_list_t raw = nullptr;
    if (const int status = gnutls_x509_trust_list_init(&raw, 0); status != 0) {
        return fail(ErrorKind::internal, "certificates: {}", gnutls_strerror(status));
    }
    Trust trust;
    trust.impl_->list.reset(raw);
    auto filled = add_authority(raw, x509_dir + "/ca-cert.pem").and_then([&] {
        return add_revocations(raw, x509_dir + "/ca-crl.pem");
    });
    if (!filled) {
        return Failure(filled.error());
    }
    return trust;
}

std::string Trust::fault_of(const Chain& chain) const {
    if (!impl_->list) {
        return "there is no CA";
    }
    std::vector<Certificate> owned;
    std::vector<gnutls_x509_crt_t> list;
    for (const auto& der : chain.certificates) {
        gnutls_x509_crt_t raw = nullptr;
        if (gnutls_x509_crt_init(&raw) != 0) {
            return {};  // no memory: nothing was found out
        }
        owned.emplace_back(raw);
        list.push_back(raw);
        std::vector<std::byte> copy = der;
        const gnutls_datum_t datum{reinterpret_cast<unsigned char*>(copy.data()),
                                   static_cast<unsigned>(copy.size())};
        if (gnutls_x509_crt_import(raw, &datum, GNUTLS_X509_FMT_DER) != 0) {
            return "it can't be read";
        }
    }
    std::string purpose = chain.purpose;
    gnutls_typed_vdata_st wanted{
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = reinterpret_cast<unsigned char*>(purpose.data()),
        .size = 0,
    };
    unsigned faults = 0;
    const int status = gnutls_x509_trust_list_verify_crt2(impl_->list.get(), list.data(),
                                                          static_cast<unsigned>(list.size()),
                                                          &wanted, 1, 0, &faults, nullptr);
    if (status == GNUTLS_E_MEMORY_ERROR) {
        return {};
    }
    return status != 0 ? gnutls_strerror(status) : words_of_faults(faults);
}

std::string words_of_faults(unsigned faults) {
    if (faults == 0) {
        return {};
    }
    gnutls_datum_t words{};
    if (gnutls_certificate_verification_status_print(faults, GNUTLS_CRT_X509, &words, 0) != 0) {
        return "it is not trusted";
    }
    std::string fault(reinterpret_cast<const char*>(words.data), words.size);
    gnutls_free(words.data);
    while (!fault.empty() && (fault.back() == ' ' || fault.back() == '\0' || fault.back() == '.')) {
        fault.pop_back();
    }
    return fault;
}

std::string digest_of(const Chain& chain) {
    std::vector<std::byte> all;
    for (const auto& der : chain.certificates) {
        all.insert(all.end(), der.begin(), der.end());
    }
    std::array<unsigned char, 32> digest{};
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, all.data(), all.size(), digest.data()) != 0) {
        return {};
    }
    std::string text;
    for (const unsigned char byte : digest) {
        text += fmt::format("{:02x}", byte);
    }
    return text;
}

}  // namespace mirror::tls
