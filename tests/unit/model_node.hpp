// SPDX-License-Identifier: BSD-3-Clause
// One node of the model test: a machine and what runs on it. A standby is the real Replica on the
// machine's disks; an active is ModelActive around the real Membership. One thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/base/clock.hpp"
#include "core/standby/replica.hpp"
#include "model_machine.hpp"

namespace mirror::test {

/// Moves on by itself, so that nothing depends on the machine's speed.
class ModelClock final : public Clock {
  public:
    [[nodiscard]] WallTime wall_now() const override {
        return WallTime(std::chrono::microseconds(1'700'000'000'000'000 + ++ticks_));
    }
    [[nodiscard]] SteadyTime steady_now() const override {
        return SteadyTime(std::chrono::microseconds(++ticks_));
    }

  private:
    mutable std::int64_t ticks_ = 0;
};

class ModelActive;

struct ModelNode {
    ModelNode(std::size_t index, std::string node_name, std::size_t meta_size)
        : number(index), name(std::move(node_name)), machine(meta_size) {}

    [[nodiscard]] bool runs() const noexcept { return replica || active; }
    [[nodiscard]] bool dying() const noexcept { return machine.fuse.blown() != Death::none; }

    std::size_t number;
    std::string name;
    ModelMachine machine;
    std::unique_ptr<Replica> replica;
    /// The standby's end of the data connection, and whose it is.
    std::unique_ptr<nbd::Export> door;
    SessionId door_session{};
    std::unique_ptr<ModelActive> active;
};

/// What a call across the wire says that did not get through.
[[nodiscard]] inline Failure unreachable() {
    return fail(ErrorKind::unreachable, "the peer can't be reached");
}

/// What connects the two.
class ModelWire {
  public:
    /// Whether something gets through now.
    [[nodiscard]] bool passes() {
        if (up_ && armed_ && left_-- == 0) {
            up_ = false;
            armed_ = false;
        }
        return up_;
    }
    [[nodiscard]] bool is_up() const noexcept { return up_; }
    void cut_after(unsigned messages) {
        armed_ = true;
        left_ = messages;
    }
    void set(bool up) {
        up_ = up;
        armed_ = false;
    }

  private:
    bool up_ = true;
    bool armed_ = false;
    unsigned left_ = 0;
};

}  // namespace mirror::test
