// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/key_watch.hpp"

#include <algorithm>

#include "core/base/log.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::seconds period{1};

}  // namespace

Result<void> KeyWatch::start() {
    if (!context_.tls || context_.tls->mode() != TlsMode::psk) {
        return {};
    }
    return periodic_.start("keys", period, [this] { look(); });
}

void KeyWatch::stop() {
    periodic_.stop();
}

/// A file that can't be read takes nobody's key away: it may be on its way to be replaced, and
/// nobody comes in meanwhile.
void KeyWatch::look() {
    auto keys = context_.tls->names();
    if (!keys) {
        return;
    }
    if (*keys != keys_) {
        log(LogLevel::info, "the cluster's keys: {}", fmt::join(*keys, ", "));
        keys_ = std::move(*keys);
    }
    // Each time: somebody may have shown a key just before it went, and opened an export after.
    server_.end_connections_of([this](const tls::Proof& proof) {
        return std::find(keys_.begin(), keys_.end(), proof.key) == keys_.end();
    });
}

}  // namespace mirror::daemon
