// SPDX-License-Identifier: BSD-3-Clause
#include "tls_peer.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string>

#include "core/base/units.hpp"
#include "core/config/config.hpp"
#include "core/tls/psk_file.hpp"
#include "temp_folder.hpp"
#include "tests/unit/tls_carry.hpp"

namespace mirror::fuzz {
namespace {

void check(int status) {
    require(status >= 0, "certificates can be made");
}

/// A key and its certificate; of the CA itself when there is no issuer.
class Identity {
  public:
    Identity(const std::string& name, const Identity* issuer) {
        check(gnutls_x509_privkey_init(&key_));
        check(gnutls_x509_privkey_generate(key_, GNUTLS_PK_ECDSA,
                                           GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
        check(gnutls_x509_crt_init(&certificate_));
        const unsigned char serial = issuer == nullptr ? 1 : 2;
        const std::time_t now = std::time(nullptr);
        constexpr std::time_t day = 24 * 3600;
        check(gnutls_x509_crt_set_version(certificate_, 3));
        check(gnutls_x509_crt_set_serial(certificate_, &serial, sizeof serial));
        check(gnutls_x509_crt_set_activation_time(certificate_, now - day));
        check(gnutls_x509_crt_set_expiration_time(certificate_, now + 365 * day));
        check(gnutls_x509_crt_set_dn_by_oid(certificate_, GNUTLS_OID_X520_COMMON_NAME, 0,
                                            name.data(), static_cast<unsigned>(name.size())));
        check(gnutls_x509_crt_set_key(certificate_, key_));
        if (issuer == nullptr) {
            check(gnutls_x509_crt_set_basic_constraints(certificate_, 1, -1));
            check(gnutls_x509_crt_set_key_usage(certificate_, GNUTLS_KEY_KEY_CERT_SIGN));
        } else {
            check(gnutls_x509_crt_set_subject_alt_name(certificate_, GNUTLS_SAN_DNSNAME,
                                                       name.data(),
                                                       static_cast<unsigned>(name.size()), 0));
            check(gnutls_x509_crt_set_key_usage(certificate_, GNUTLS_KEY_DIGITAL_SIGNATURE));
            check(gnutls_x509_crt_set_key_purpose_oid(certificate_, GNUTLS_KP_TLS_WWW_CLIENT, 0));
            check(gnutls_x509_crt_set_key_purpose_oid(certificate_, GNUTLS_KP_TLS_WWW_SERVER, 0));
        }
        const Identity& signer = issuer == nullptr ? *this : *issuer;
        check(gnutls_x509_crt_sign2(certificate_, signer.certificate_, signer.key_,
                                    GNUTLS_DIG_SHA256, 0));
    }
    ~Identity() {
        gnutls_x509_crt_deinit(certificate_);
        gnutls_x509_privkey_deinit(key_);
    }
    Identity(const Identity&) = delete;
    Identity& operator=(const Identity&) = delete;

    void save(const std::string& folder, const std::string& name, bool with_key) const {
        gnutls_datum_t text{};
        check(gnutls_x509_crt_export2(certificate_, GNUTLS_X509_FMT_PEM, &text));
        write(folder + "/" + name + "-cert.pem", text);
        if (with_key) {
            check(gnutls_x509_privkey_export2(key_, GNUTLS_X509_FMT_PEM, &text));
            write(folder + "/" + name + "-key.pem", text);
        }
    }

  private:
    static void write(const std::string& path, gnutls_datum_t& text) {
        std::ofstream file(path);
        std::filesystem::permissions(
            path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
        file.write(reinterpret_cast<const char*>(text.data), text.size);
        require(file.good(), "a certificate can be written");
        gnutls_free(text.data);
        text.data = nullptr;
    }

    gnutls_x509_privkey_t key_ = nullptr;
    gnutls_x509_crt_t certificate_ = nullptr;
};

void make_certificates(const std::string& folder) {
    std::filesystem::create_directories(folder);
    const Identity authority("ca", nullptr);
    authority.save(folder, "ca", false);
    for (const char* node : {"alpha", "beta", "gamma"}) {
        Identity(node, &authority).save(folder, node, true);
    }
}

Config make_config(TlsMode mode, const std::string& x509_dir) {
    Config config;
    for (const char* node : {"alpha", "beta"}) {
        config.nodes[node].name = node;
    }
    config.tls.mode = mode;
    config.tls.psk_file = temp_folder() + "/fuzz.psk";
    config.tls.x509_dir = x509_dir;
    return config;
}

TlsNodes nodes_with_key() {
    const Config config = make_config(TlsMode::psk, "");
    const auto key = tls::new_psk_key();
    require(key && tls::write_psk_file(config.tls.psk_file, {*key}), "there is a key");
    return {.alpha = tls::Credentials::of(config, "alpha"),
            .beta = tls::Credentials::of(config, "beta")};
}

TlsNodes nodes_with_certificates() {
    const Config config = make_config(TlsMode::x509, temp_folder() + "/x509");
    const Config others = make_config(TlsMode::x509, temp_folder() + "/other-x509");
    make_certificates(config.tls.x509_dir);
    make_certificates(others.tls.x509_dir);
    return {.alpha = tls::Credentials::of(config, "alpha"),
            .beta = tls::Credentials::of(config, "beta"),
            .gamma = tls::Credentials::of(config, "gamma"),
            .false_alpha = tls::Credentials::of(others, "alpha"),
            .false_beta = tls::Credentials::of(others, "beta")};
}

}  // namespace

const TlsNodes& tls_nodes(TlsMode mode) {
    static const TlsNodes with_key = nodes_with_key();
    static const TlsNodes with_certificates = nodes_with_certificates();
    return mode == TlsMode::psk ? with_key : with_certificates;
}

void establish(tls::Session& client, tls::Session& server) {
    using Progress = tls::Session::Progress;
    std::array<tls::Session*, 2> ends{&client, &server};
    std::array<bool, 2> done{};
    for (std::size_t turn = 0; turn < 20 && !(done[0] && done[1]); ++turn) {
        const std::size_t self = turn % 2;
        if (!done.at(self)) {
            const auto step = ends.at(self)->handshake();
            require(step.has_value(), "a good handshake goes well");
            done.at(self) = *step == Progress::done;
        }
        test::carry(*ends.at(self), *ends.at(1 - self));
    }
    require(done[0] && done[1], "a handshake comes to its end");
}

Flips::Flips(Input& input, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const auto at = input.number<std::uint16_t>();
        flips_.push_back({at, std::byte{input.number<std::uint8_t>()}});
    }
}

void Flips::apply(std::span<std::byte> bytes) noexcept {
    for (const Flip& flip : flips_) {
        if (flip.at >= seen_ && flip.at - seen_ < bytes.size()) {
            bytes[flip.at - seen_] ^= flip.bits;
        }
    }
    seen_ += bytes.size();
}

TlsPeer::TlsPeer(tls::Session session, Bytes words, Habits habits)
    : session_(std::move(session)), words_(words), habits_(std::move(habits)), heard_(64 * KiB) {
    say(std::as_bytes(std::span(habits_.preface)));
}

Result<std::size_t> TlsPeer::recv_some(std::span<std::byte> into, const nbd::Patience&) {
    if (on_the_way_.empty() && !ended_) {
        go_on();
    }
    const std::size_t count = ended_ ? 0 : std::min(into.size(), on_the_way_.size());
    std::copy_n(on_the_way_.begin(), count, into.begin());
    on_the_way_.erase(on_the_way_.begin(),
                      on_the_way_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
}

Result<void> TlsPeer::send_all(std::span<const std::byte> from, const nbd::Patience&) {
    const std::size_t plain = std::min(from.size(), habits_.plain);
    habits_.plain -= plain;
    from = from.subspan(plain);
    while (!from.empty()) {
        const std::span<std::byte> space = session_.input_space();
        if (space.empty()) {
            break;  // it does not listen any more
        }
        const std::size_t count = std::min(space.size(), from.size());
        std::copy_n(from.begin(), count, space.begin());
        session_.input_filled(count);
        from = from.subspan(count);
        listen();
    }
    return {};
}

void TlsPeer::say(std::span<const std::byte> bytes) {
    on_the_way_.insert(on_the_way_.end(), bytes.begin(), bytes.end());
}

void TlsPeer::flush() {
    const std::size_t before = on_the_way_.size();
    say(session_.output());
    session_.output_taken(session_.output().size());
    habits_.flips.apply(std::span(on_the_way_).subspan(before));
}

void TlsPeer::listen() {
    if (established_) {
        (void)session_.receive(heard_);
    } else if (const auto step = session_.handshake()) {
        established_ = *step == tls::Session::Progress::done;
    }
    flush();
}

/// The other side waits for it.
void TlsPeer::go_on() {
    if (habits_.piece == 0) {
        say(words_);
        words_ = {};
    } else if (!established_) {
        listen();
    } else if (!words_.empty()) {
        const std::size_t count = std::min(habits_.piece, words_.size());
        (void)session_.send(words_.first(count));
        words_ = words_.subspan(count);
        flush();
    }
}

}  // namespace mirror::fuzz
