// SPDX-License-Identifier: BSD-3-Clause
// A machine without kernel devices, for tests of mirrord's parts.
#pragma once

#include "daemon/device/attacher.hpp"

namespace mirror::test {

struct NoDevices final : daemon::DeviceAttacher {
    Result<void> attach(const std::string&, const std::string&, const std::string&) override {
        return {};
    }
    Result<void> detach(const std::string&) override { return {}; }
    Result<bool> drop(const std::string&) override { return false; }
    bool is_attached(const std::string&) const override { return false; }
    unsigned connections(const std::string&) const override { return 0; }
    Result<void> require_unused(const std::string&) const override { return {}; }
    void adopt(const std::string&, const std::string&) override {}
    void engine_gone(const std::string&) override {}
    std::optional<std::chrono::milliseconds> look_after(const std::string&) override {
        return std::nullopt;
    }
    Result<void> set_replay_after(const std::string&, std::chrono::milliseconds) override {
        return {};
    }
    void note_link_dead(const std::string&) override {}
    std::string state(const std::string&) const override { return "detached"; }
};

}  // namespace mirror::test
