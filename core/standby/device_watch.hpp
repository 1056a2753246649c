// SPDX-License-Identifier: BSD-3-Clause
// Whether the device below a replica finishes anything, for its own or for anybody's requests. A
// single request may wait long behind those of others, or in a filesystem's journal, while the disk
// works; the kernel counts what a device has finished. Reads are left out: a device may answer
// these and hang in every write. Belongs to one connection's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/clock.hpp"

namespace mirror {

/// Writes, discards and flushes that have been finished, of a line of the kernel's (Documentation/
/// block/stat.rst). None: it is no such line.
[[nodiscard]] std::optional<std::uint64_t> finished_requests(std::string_view counters);

class DeviceWatch {
  public:
    /// `path`: see Store::device_counters(). Empty, or nothing there: nothing is ever seen.
    explicit DeviceWatch(std::string path) : path_(std::move(path)) {}

    /// A moment after which the count has moved, the latest that is known: a look that found it
    /// lower. The epoch: it was never seen to move. `now` is this look's time.
    [[nodiscard]] SteadyTime last_finished(SteadyTime now);

  private:
    const std::string path_;
    std::optional<std::uint64_t> count_;
    SteadyTime looked_{};
    SteadyTime moved_{};
};

}  // namespace mirror
