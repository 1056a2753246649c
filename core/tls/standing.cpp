// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/standing.hpp"

#include <cerrno>

#include "core/base/units.hpp"
#include "core/tls/psk_file.hpp"

namespace mirror::tls {

bool Standing::look(SteadyTime now) {
    if (credentials_->mode() == TlsMode::psk) {
        look_at_keys(now);
        return true;
    }
    if (verified_ && now < *verified_ + verify_period) {
        return false;
    }
    verified_ = now;
    look_at_certificates(now);
    return true;
}

void Standing::look_at_keys(SteadyTime now) {
    const std::string& path = credentials_->files().psk_file;
    std::optional<PskKeys> valid;
    if (auto keys = read_psk_file(path)) {
        valid = std::move(*keys);
        unusable_since_.reset();
        trouble_.clear();
    } else {
        valid = keys_left(keys.error(), now);
    }
    if (!valid) {
        return;
    }
    digests_.clear();
    names_.clear();
    for (const PskKey& key : *valid) {
        digests_.insert(digest_of(key));
        names_.insert(key.name);
    }
    is_known_ = true;
}

/// What counts of a file that can't be used; none: nothing is known, or not long enough.
std::optional<PskKeys> Standing::keys_left(const Error& error, SteadyTime now) {
    const bool is_gone = error.os_error == ENOENT || error.os_error == ENOTDIR;
    note_trouble(error, is_gone, now);
    if (!patience_is_over(now) || (!is_gone && error.os_error != 0)) {
        return std::nullopt;
    }
    if (is_gone) {
        return PskKeys{};
    }
    auto left = legible_keys(credentials_->files().psk_file);
    return left ? std::optional(std::move(*left)) : std::nullopt;
}

void Standing::look_at_certificates(SteadyTime now) {
    auto trust = Trust::load(credentials_->files().x509_dir);
    if (trust) {
        trust_ = std::move(*trust);
        unusable_since_.reset();
        trouble_.clear();
        return;
    }
    const bool is_gone = trust.error().kind == ErrorKind::not_found;
    note_trouble(trust.error(), is_gone, now);
    if (is_gone && patience_is_over(now)) {
        trust_.emplace();
    }
}

void Standing::note_trouble(const Error& error, bool is_gone, SteadyTime now) {
    unusable_since_ = unusable_since_.value_or(now);
    trouble_ = error.message;
    if (is_gone) {
        trouble_ +=
            patience_is_over(now)
                ? ": no connection is accepted, and existing ones are closed"
                : fmt::format(": unless it comes back within {}, existing connections are closed",
                              format_duration(patience));
    }
}

bool Standing::patience_is_over(SteadyTime now) const {
    return unusable_since_ && now >= *unusable_since_ + patience;
}

std::string Standing::objection_to(const Proof& proof) const {
    if (credentials_->mode() == TlsMode::psk) {
        return objection_to_key(proof);
    }
    if (!trust_) {
        return {};
    }
    const std::string fault = proof.chain ? trust_->fault_of(*proof.chain) : "it showed none";
    return fault.empty()
               ? fault
               : fmt::format("the certificate of {} is no longer accepted: {}", proof.node, fault);
}

std::string Standing::objection_to_key(const Proof& proof) const {
    if (!is_known_ || digests_.count(proof.digest) != 0) {
        return {};
    }
    const std::string& path = credentials_->files().psk_file;
    return names_.count(proof.key) != 0
               ? fmt::format("the key {} now has another secret in {}", proof.key, path)
               : fmt::format("the key {} was removed from {}", proof.key, path);
}

}  // namespace mirror::tls
