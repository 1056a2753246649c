// SPDX-License-Identifier: BSD-3-Clause
// What is passed on to others must have no key in it, wherever somebody may have put one: a comment
// of the configuration, an event, a log. Takes out what is known to be a key, and what looks like
// one. Too much is taken rather than too little. One thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/tls/secret.hpp"

namespace mirror::tools {

class Redactor {
  public:
    /// A key: neither its bytes nor its hex digits get through, in whichever case.
    void add(const tls::Secret& secret);
    /// Without the keys that were added, private keys in PEM, lines NAME:HEX of a file of keys, and
    /// whatever else has 40 hex digits in a row: our own ids have 32.
    [[nodiscard]] std::string clean(std::string text);
    [[nodiscard]] std::size_t removed() const noexcept { return removed_; }

  private:
    [[nodiscard]] std::string without_pem(std::string text);
    [[nodiscard]] std::string without_bytes(std::string text);
    [[nodiscard]] std::string without_digits(const std::string& text);
    [[nodiscard]] bool has_known_digits(std::string_view run) const;

    std::vector<tls::Secret> bytes_;
    std::vector<tls::Secret> digits_;  ///< of the same, in lower case
    std::size_t removed_ = 0;
};

}  // namespace mirror::tools
