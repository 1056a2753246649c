// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/context.hpp"

#include "daemon/live_config.hpp"

namespace mirror::daemon {

const Config& Context::used() const noexcept {
    return live != nullptr ? live->now().used : config;
}

const Config& Context::as_read() const noexcept {
    return live != nullptr ? live->now().read : file != nullptr ? *file : config;
}

const std::map<std::string, VolumeHome>* Context::homes_now() const noexcept {
    return live != nullptr ? &live->now().homes : homes;
}

}  // namespace mirror::daemon
