// SPDX-License-Identifier: BSD-3-Clause
#include "core/standby/device_watch.hpp"

#include <array>
#include <fstream>
#include <sstream>
#include <utility>

namespace mirror {

std::optional<std::uint64_t> finished_requests(std::string_view counters) {
    // The numbers of writes, discards and flushes; older kernels do not count the latter two.
    constexpr std::array<std::size_t, 3> places{4, 11, 15};
    std::istringstream line{std::string(counters)};
    std::uint64_t finished = 0;
    std::size_t place = 0;
    for (std::uint64_t number = 0; line >> number; ++place) {
        for (const std::size_t wanted : places) {
            finished += place == wanted ? number : 0;
        }
    }
    return place > places.front() ? std::optional(finished) : std::nullopt;
}

SteadyTime DeviceWatch::last_finished(SteadyTime now) {
    std::string line;
    if (std::ifstream file(path_); path_.empty() || !std::getline(file, line)) {
        return {};
    }
    const auto count = finished_requests(line);
    // Of the first look nothing is known: it may have moved an hour ago.
    if (count && count_ && *count != *count_) {
        moved_ = looked_;
    }
    count_ = count;
    looked_ = now;
    return moved_;
}

}  // namespace mirror
