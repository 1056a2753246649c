// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/device/stall_watch.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <utility>

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds interval{5};

}  // namespace

StallWatch::StallWatch(std::string stat_file) : stat_file_(std::move(stat_file)) {
    // Without a thread nothing is measured, which is no reason not to do what was to be measured.
    (void)start_thread(thread_, "stall-watch", [this] { run(); });
}

StallWatch::~StallWatch() {
    {
        MutexLock lock(mutex_);
        stopping_ = true;
        wake_.notify_all();
    }
    if (thread_.joinable()) {
        thread_.join();
    }
}

milliseconds StallWatch::longest() const {
    MutexLock lock(mutex_);
    return longest_;
}

std::optional<StallWatch::Counters> StallWatch::parse(const std::string& line) {
    // Reads, writes, discards and flushes that were answered; the flushes came last (Linux 5.5).
    constexpr std::array<std::size_t, 4> answered{0, 4, 11, 15};
    constexpr std::size_t waiting = 8;
    std::istringstream words(line);
    std::array<std::uint64_t, 17> fields{};
    std::size_t count = 0;
    while (count < fields.size() && words >> fields[count]) {
        ++count;
    }
    if (count <= waiting) {
        return std::nullopt;
    }
    Counters counters{.answered = 0, .waiting = fields[waiting]};
    for (const std::size_t field : answered) {
        counters.answered += fields[field];
    }
    return counters;
}

std::optional<StallWatch::Counters> StallWatch::look() const {
    std::ifstream file(stat_file_);
    std::string line;
    std::getline(file, line);
    return parse(line);
}

void StallWatch::run() {
    auto last_sign = std::chrono::steady_clock::now();
    Counters last = look().value_or(Counters{});
    MutexLock lock(mutex_);
    while (!stopping_) {
        wake_.wait_for(lock, interval);
        const auto seen = look();
        const auto now = std::chrono::steady_clock::now();
        if (!seen || seen->waiting == 0 || last.waiting == 0 || seen->answered != last.answered) {
            last_sign = now;
        }
        last = seen.value_or(Counters{});
        longest_ = std::max(longest_, std::chrono::duration_cast<milliseconds>(now - last_sign));
    }
}

bool StallWatch::await_answers(milliseconds patience) const {
    const auto first = look();
    const auto deadline = std::chrono::steady_clock::now() + patience;
    MutexLock lock(mutex_);
    for (;;) {
        const auto seen = look();
        if (!first || !seen || seen->waiting == 0 ||
            seen->answered >= first->answered + first->waiting) {
            return true;
        }
        if (std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        wake_.wait_for(lock, interval);
    }
}

}  // namespace mirror::daemon
