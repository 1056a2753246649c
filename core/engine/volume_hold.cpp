// SPDX-License-Identifier: BSD-3-Clause
// The engine gets ready to be replaced while it is in use: what is in flight is answered, what
// comes after that waits. It is not refused, since an answer would be an error to the application;
// a client that connects to the next engine sends again whatever it got no answer to. Whoever asked
// for this kills the process next; a hold that is forgotten ends by itself.
#include <chrono>
#include <utility>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "core/engine/volume.hpp"
#include "core/lineage/promotion.hpp"

namespace mirror {
namespace {

using control::Json;
using std::chrono::milliseconds;

/// To kill a process takes no longer, and clients wait meanwhile.
constexpr milliseconds usual_limit{15000};
/// Beyond the longest stall of a write.
constexpr milliseconds settle_margin{5000};

}  // namespace

Result<Json> Volume::hold(const Json& request) {
    const auto limit = control::optional_uint_field(request, "limit_ms");
    if (!limit) {
        return Failure(limit.error());
    }
    const milliseconds patience = *limit ? milliseconds(**limit) : usual_limit;
    const SteadyTime until = std::chrono::steady_clock::now() + peer_.timeout() + settle_margin;
    {
        MutexLock lock(house_mutex_);
        held_until_ = until + patience;
        house_wake_.notify_all();  // it may have meant to sleep for longer
    }
    if (auto settled = settle_for_replacement(until); !settled) {
        let_go();
        return Failure(settled.error());
    }
    MutexLock lock(house_mutex_);
    held_until_ = std::chrono::steady_clock::now() + patience;
    return Json{{"intent_bytes", differences_->intent_bytes()}};
}

Result<void> Volume::settle_for_replacement(SteadyTime until) {
    const auto require_local = [&]() -> Result<void> {
        return membership_.uses_local()
                   ? Result<void>{}
                   : Failure(no_other_engine(name(), node_, settings_.peer_of(node_)));
    };
    if (auto local = require_local(); !local) {
        return local;
    }
    if (!gate_.hold(until)) {
        return Failure(
            Error{ErrorKind::busy,
                  fmt::format("requests on {} are waiting and can't be completed now ({})", name(),
                              why()),
                  fmt::format("mirrorctl status {}", name())});
    }
    if (auto suspended = peer_.suspend(until); !suspended) {
        return suspended;
    }
    // The session is over and the gate is held: nobody enters until let_go(), which may come any
    // time. Then the caller's kill finds an engine in use, as a death would.
    auto settled = checkpoint();
    return require_local().and_then([&] { return settled; });
}

void Volume::let_go() {
    {
        MutexLock lock(house_mutex_);
        held_until_.reset();
    }
    peer_.go_on();
    gate_.let_go();
}

void Volume::end_old_hold() {
    {
        MutexLock lock(house_mutex_);
        if (!held_until_ || std::chrono::steady_clock::now() < *held_until_) {
            return;
        }
    }
    log(LogLevel::warning, "volume {}: held requests continue, because the engine was not replaced",
        name());
    let_go();
}

}  // namespace mirror
