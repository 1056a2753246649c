// SPDX-License-Identifier: BSD-3-Clause
// The CA and its list of revoked certificates as they are in x509_dir now, apart from any session:
// what a connection once proved is held against them again. Movable; one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "core/base/error.hpp"
#include "core/tls/session.hpp"

namespace mirror::tls {

class Trust {
  public:
    /// In nobody.
    Trust();
    ~Trust();
    Trust(Trust&&) noexcept;
    Trust& operator=(Trust&&) noexcept;

    /// An error of kind not_found where there is no ca-cert.pem.
    [[nodiscard]] static Result<Trust> load(const std::string& x509_dir);
    /// Why these certificates are not good at this moment; empty: they are.
    [[nodiscard]] std::string fault_of(const Chain& chain) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Of GnuTLS's verification; empty: none.
[[nodiscard]] std::string words_of_faults(unsigned faults);
/// SHA-256 of the certificates; empty where that failed.
[[nodiscard]] std::string digest_of(const Chain& chain);

}  // namespace mirror::tls
