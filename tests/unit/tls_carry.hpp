// SPDX-License-Identifier: BSD-3-Clause
// What lies between two ends of TLS without a network; for unit tests and fuzzers.
#pragma once

#include <algorithm>

#include "core/tls/session.hpp"

namespace mirror::test {

/// Moves what one end has to say to the other; true if there was anything.
inline bool carry(tls::Session& from, tls::Session& to) {
    bool any = false;
    while (!from.output().empty()) {
        any = true;
        const auto space = to.input_space();
        const std::size_t count = std::min(space.size(), from.output().size());
        std::copy_n(from.output().begin(), count, space.begin());
        from.output_taken(count);
        to.input_filled(count);
        if (space.size() == count) {
            break;
        }
    }
    return any;
}

}  // namespace mirror::test
