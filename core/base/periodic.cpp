// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/periodic.hpp"

#include <utility>

namespace mirror {

Result<void> Periodic::start(const std::string& name, std::chrono::milliseconds period,
                             std::function<void()> look) {
    return start_thread(thread_, name,
                        [this, period, look = std::move(look)] { run(period, look); });
}

void Periodic::stop() {
    {
        MutexLock lock(mutex_);
        stopping_ = true;
        stopped_.notify_all();
    }
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Periodic::run(std::chrono::milliseconds period, const std::function<void()>& look) {
    MutexLock lock(mutex_);
    while (!stopping_) {
        lock.unlock();
        look();
        lock.lock();
        if (!stopping_) {
            stopped_.wait_for(lock, period);
        }
    }
}

}  // namespace mirror
