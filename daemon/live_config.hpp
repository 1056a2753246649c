// SPDX-License-Identifier: BSD-3-Clause
// The configuration in force, which a reload replaces while every thread may be reading it. A
// version is never changed and never destroyed before mirrord ends: main declares this before all
// that reads it. So whoever has a reference may keep it, and no reader takes a lock or counts
// anything. Each reload that changes something costs the memory of one parsed file.
//
// now() from any thread; put() from one at a time (daemon/reload.hpp).
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/config/config.hpp"
#include "daemon/volume_home.hpp"

namespace mirror::daemon {

class LiveConfig {
  public:
    struct Version {
        Config read;  ///< of the file, with what needs a restart as it was at the start
        Homes homes;
        Config used;  ///< `read` with its volumes as they are at home
    };

    explicit LiveConfig(Version first) { put(std::move(first)); }

    [[nodiscard]] const Version& now() const noexcept {
        return *now_.load(std::memory_order_acquire);
    }
    void put(Version next) {
        versions_.push_back(std::make_unique<const Version>(std::move(next)));
        now_.store(versions_.back().get(), std::memory_order_release);
    }

  private:
    std::vector<std::unique_ptr<const Version>> versions_;
    std::atomic<const Version*> now_{nullptr};
};

}  // namespace mirror::daemon
