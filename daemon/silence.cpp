// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/silence.hpp"

#include <algorithm>

#include "core/nbd/tcp_options.hpp"

namespace mirror::daemon {

std::chrono::milliseconds silence_of(const Config& config) {
    std::chrono::milliseconds longest{0};
    for (const auto& [name, volume] : config.volumes) {
        longest = std::max(longest, volume.peer_timeout);
    }
    return nbd::silence_for(longest);
}

}  // namespace mirror::daemon
