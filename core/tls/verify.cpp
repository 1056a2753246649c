// SPDX-License-Identifier: BSD-3-Clause
// Who the other side's certificate is for. A chain to the CA is not enough: it may have signed
// certificates for anybody. One of the names in the config must be in it.
#include <gnutls/x509.h>
#include <new>

#include "core/tls/session_impl.hpp"
#include "core/tls/trust.hpp"

namespace mirror::tls {
namespace {

using Certificate = Owned<gnutls_x509_crt_t, gnutls_x509_crt_deinit>;

Certificate certificate_of(gnutls_session_t session) {
    unsigned count = 0;
    const gnutls_datum_t* list = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t raw = nullptr;
    if (list == nullptr || count == 0 || gnutls_x509_crt_init(&raw) != 0) {
        return nullptr;
    }
    Certificate certificate(raw);
    return gnutls_x509_crt_import(raw, &list[0], GNUTLS_X509_FMT_DER) == 0 ? std::move(certificate)
                                                                           : nullptr;
}

const char* purpose_for(Session::Impl::Side side) noexcept {
    return side == Session::Impl::Side::server ? GNUTLS_KP_TLS_WWW_CLIENT
                                               : GNUTLS_KP_TLS_WWW_SERVER;
}

/// Empty when the chain is good.
std::string fault_of_chain(gnutls_session_t session, Session::Impl::Side side) {
    std::string text = purpose_for(side);  // the call wants something that it could write to
    gnutls_typed_vdata_st wanted{
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = reinterpret_cast<unsigned char*>(text.data()),
        .size = 0,
    };
    unsigned faults = 0;
    if (const int status = gnutls_certificate_verify_peers(session, &wanted, 1, &faults);
        status != 0) {
        return gnutls_strerror(status);
    }
    return words_of_faults(faults);
}

std::shared_ptr<const Chain> chain_of(gnutls_session_t session, Session::Impl::Side side) {
    auto chain = std::make_shared<Chain>();
    unsigned count = 0;
    const gnutls_datum_t* list = gnutls_certificate_get_peers(session, &count);
    for (unsigned at = 0; at < count; ++at) {
        const auto* begin = reinterpret_cast<const std::byte*>(list[at].data);
        chain->certificates.emplace_back(begin, begin + list[at].size);
    }
    chain->purpose = purpose_for(side);
    return chain;
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) {
        text += (text.empty() ? "" : " or ") + name;
    }
    return text;
}

/// Empty when the certificate is good.
std::string judge(gnutls_session_t session, Session::Impl& impl) {
    const Certificate certificate = certificate_of(session);
    if (!certificate) {
        return "the other side sent no certificate";
    }
    if (std::string fault = fault_of_chain(session, impl.side); !fault.empty()) {
        return "the other side's certificate is not accepted: " + fault;
    }
    for (const std::string& name : impl.names) {
        if (gnutls_x509_crt_check_hostname2(certificate.get(), name.c_str(),
                                            GNUTLS_VERIFY_DO_NOT_ALLOW_WILDCARDS) != 0) {
            impl.proof.node = name;
            impl.proof.chain = chain_of(session, impl.side);
            impl.proof.digest = digest_of(*impl.proof.chain);
            return {};
        }
    }
    return fmt::format("the other side's certificate is not for {}", joined(impl.names));
}

}  // namespace

int verify_certificate(gnutls_session_t session) noexcept {
    auto& impl = *static_cast<Session::Impl*>(gnutls_session_get_ptr(session));
    try {
        impl.verdict = judge(session, impl);
        return impl.verdict.empty() ? 0 : -1;
    } catch (const std::exception&) {
        return -1;
    }
}

}  // namespace mirror::tls
