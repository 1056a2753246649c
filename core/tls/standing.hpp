// SPDX-License-Identifier: BSD-3-Clause
// Whether what a connection once proved would still let it in: a key may have been taken out or
// replaced, a certificate revoked, or its time be over. TLS asks that once, and a connection
// between nodes lives for months. So whoever keeps connections looks at the files again and again,
// and ends those that there is an objection to: mirrord those that it accepted
// (daemon/key_watch.hpp) and its own (daemon/peer_watch.hpp), an engine those of its session
// (core/engine/session_watch.hpp).
//
// A file of keys that can't be used, as it is on its way to be replaced, takes nobody's key away
// for a minute; then what it still has counts, which is nothing where it is gone. An error of the
// machine (no descriptors, a bad disk) says nothing of any key, however long it lasts.
//
// Each watch has its own. Not thread-safe. look() reads files, and so may hang with their disk.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/clock.hpp"
#include "core/tls/credentials.hpp"
#include "core/tls/trust.hpp"

namespace mirror::tls {

struct PskKey;  // core/tls/psk_file.hpp

class Standing {
  public:
    static constexpr std::chrono::seconds period{1};  ///< how often to look()
    /// Certificates are verified anew this often only: it costs more, and revocation is no switch.
    static constexpr std::chrono::seconds verify_period{10};
    static constexpr std::chrono::seconds patience{60};

    explicit Standing(std::shared_ptr<const Credentials> credentials)
        : credentials_(std::move(credentials)) {}

    /// Reads the files. False: it is not the time to ask for objections again.
    [[nodiscard]] bool look(SteadyTime now);
    /// As of the last look(): why a connection with this proof has to end, as the end of a sentence
    /// about it; empty: it may stay.
    [[nodiscard]] std::string objection_to(const Proof& proof) const;
    /// Why the files can't be used at present, and what comes of that; empty: they can.
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }

  private:
    void look_at_keys(SteadyTime now);
    [[nodiscard]] std::optional<std::vector<PskKey>> keys_left(const Error& error, SteadyTime now);
    void look_at_certificates(SteadyTime now);
    void note_trouble(const Error& error, bool is_gone, SteadyTime now);
    [[nodiscard]] bool patience_is_over(SteadyTime now) const;
    [[nodiscard]] std::string objection_to_key(const Proof& proof) const;

    const std::shared_ptr<const Credentials> credentials_;
    std::optional<SteadyTime> unusable_since_;
    std::string trouble_;
    bool is_known_ = false;  ///< a file of keys was read, or given up
    std::set<std::string> digests_;
    std::set<std::string> names_;
    std::optional<Trust> trust_;
    std::optional<SteadyTime> verified_;
};

}  // namespace mirror::tls
