// SPDX-License-Identifier: BSD-3-Clause
// Waiting for what another thread or process does soon.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace mirror::test {

/// Polls; the deadline is for machines under load, not part of what is tested. False: it is over.
[[nodiscard]] inline bool eventually(const std::function<bool()>& condition,
                                     std::chrono::milliseconds most = std::chrono::seconds(60)) {
    constexpr std::chrono::microseconds pause{500};
    const auto deadline = std::chrono::steady_clock::now() + most;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
        std::this_thread::sleep_for(pause);
    }
    return true;
}

}  // namespace mirror::test
