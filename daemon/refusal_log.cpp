// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/refusal_log.hpp"

#include <utility>

#include "daemon/audience.hpp"

namespace mirror::daemon {

void RefusalLog::note(const nbd::Client& client, const Error& error) {
    if (is_local(who_is(client, std::nullopt))) {
        return;
    }
    std::uint64_t untold = 0;
    {
        MutexLock lock(mutex_);
        const SteadyTime now = clock_.steady_now();
        if (told_ && now - *told_ < interval) {
            ++untold_;
            return;
        }
        told_ = now;
        untold = std::exchange(untold_, 0);
    }
    events_.record(
        {"request-refused", Severity::warning, "",
         fmt::format(
             "a request of {} was refused{}", describe(client),
             untold == 0 ? "" : fmt::format(", and {} earlier ones were not reported", untold)),
         error.message,
         error.remedy.empty()
             ? "find out where it comes from; only the nodes should be able to reach the port"
             : error.remedy});
}

}  // namespace mirror::daemon
