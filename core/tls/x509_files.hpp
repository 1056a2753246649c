// SPDX-License-Identifier: BSD-3-Clause
// The files of x509_dir: who could change them would choose who is a node, so they are read as all
// that decides something is. A list of revoked certificates has a date of its next issue; one that
// is older says nothing about who was thrown out since. Values; any thread.
#pragma once

#include <optional>
#include <string>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"
#include "core/config/config.hpp"

namespace mirror::tls {

struct X509Files {
    std::string ca;           ///< PEM, as all of them
    std::string certificate;  ///< this node's, and its key
    std::string key;
    std::optional<std::string> revoked;  ///< the CRL, where there is one
};

/// Where `crl_required` says so, fails without a CRL that is in force at `now`.
[[nodiscard]] Result<X509Files> read_x509_files(const TlsConfig& config, const std::string& node,
                                                WallTime now);

/// What is wrong with the CRL at `now`, with the next step; empty: nothing, or there is none.
[[nodiscard]] std::string fault_of_crl(const TlsConfig& config, const X509Files& files,
                                       WallTime now);

}  // namespace mirror::tls
