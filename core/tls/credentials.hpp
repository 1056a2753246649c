// SPDX-License-Identifier: BSD-3-Clause
// With what this node proves who it is over TCP, and what it takes as proof from others: a
// pre-shared key of two nodes or of the cluster, or certificates of a CA. The files are read anew
// for each connection, so that a new key or certificate needs no restart. TLS 1.3 alone; keys are
// always fresh (ephemeral Diffie-Hellman), so that a key that is stolen later opens no old
// recording. Shared, read-only, any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/config/config.hpp"
#include "core/tls/session.hpp"

namespace mirror::tls {

class Credentials {
  public:
    /// For `node`; null where the config says that nothing is encrypted.
    [[nodiscard]] static std::shared_ptr<const Credentials> of(const Config& config,
                                                               const std::string& node);

    /// The server's side. Fails when the files are missing or not fit to be used.
    [[nodiscard]] Result<Session> accept() const;
    /// The client's side, towards that node: nobody else will do.
    [[nodiscard]] Result<Session> dial(const std::string& node) const;

    /// The keys' names, in the file's order; with certificates this node's own name.
    [[nodiscard]] Result<std::vector<std::string>> names() const;
    /// Why the list of revoked certificates is not what it should be, where that stops nobody;
    /// empty: it is, or there is none.
    [[nodiscard]] std::string fault_of_crl() const;
    /// The name of the key that dial() uses; with certificates this node's own name.
    [[nodiscard]] Result<std::string> name_towards(const std::string& node) const;
    [[nodiscard]] TlsMode mode() const noexcept { return config_.mode; }
    [[nodiscard]] const TlsConfig& files() const noexcept { return config_; }

  private:
    Credentials(TlsConfig config, std::string node, std::vector<std::string> nodes)
        : config_(std::move(config)), node_(std::move(node)), nodes_(std::move(nodes)) {}

    [[nodiscard]] Result<Session> start(std::unique_ptr<Session::Impl> impl) const;
    [[nodiscard]] Result<void> load_certificates(Session::Impl& impl) const;

    const TlsConfig config_;
    const std::string node_;
    const std::vector<std::string> nodes_;  ///< the others
};

}  // namespace mirror::tls
