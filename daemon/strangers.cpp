// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/strangers.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::minutes pause_between{1};

}  // namespace

void Strangers::note(const nbd::Client& client, const Error& error) {
    std::uint64_t others = 0;
    {
        MutexLock lock(mutex_);
        const SteadyTime now = context_.clock.steady_now();
        if (told_ && now < *told_ + pause_between) {
            ++untold_;
            return;
        }
        told_ = now;
        others = std::exchange(untold_, 0);
    }
    context_.events.record(
        {"stranger-refused", Severity::warning, "",
         others == 0 ? fmt::format("a connection from {} was refused", client.address)
                     : fmt::format("a connection from {} was refused, and {} others before it",
                                   client.address, others),
         error.message, error.remedy});
}

}  // namespace mirror::daemon
