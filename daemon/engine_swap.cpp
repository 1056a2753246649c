// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/engine_swap.hpp"

#include <filesystem>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "core/lineage/promotion.hpp"
#include "daemon/client_count.hpp"
#include "daemon/device/stall_watch.hpp"
#include "daemon/rto.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Timers fire at full seconds; shorter than half of one gains nothing.
constexpr milliseconds quick_replay{500};
/// For requests that were sent before that; the few that are late cost their usual time.
constexpr milliseconds old_requests_patience{500};
/// For the first answer from the new engine; beyond that the figure is of no use.
constexpr milliseconds replay_patience{5000};
constexpr milliseconds least_stall{20};

/// One swap, step by step.
class Swap {
  public:
    Swap(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation)
        : keeper_(keeper),
          operation_(operation),
          device_(keeper.config().device),
          is_attached_(!device_.empty() && keeper.devices().is_attached(device_)),
          watch_(keeper.context().clock) {
        if (is_attached_) {
            stalls_.emplace("/sys/block/" + std::filesystem::path(device_).filename().string() +
                            "/stat");
        }
    }

    [[nodiscard]] Result<void> end_old();
    [[nodiscard]] Result<void> start_new();
    [[nodiscard]] SwapOutcome outcome() const;
    void end_phase(const std::string& name) { watch_.end_phase(name); }

  private:
    [[nodiscard]] Result<void> hold();
    /// The old engine goes on.
    void give_up();

    VolumeKeeper& keeper_;
    const VolumeKeeper::Operation& operation_;
    const std::string device_;
    const bool is_attached_;
    Stopwatch watch_;
    std::optional<StallWatch> stalls_;
    SteadyTime held_{};
    milliseconds unserved_{0};
};

Result<void> Swap::hold() {
    // Longer than the engine lets its own requests take for it. One that holds though its answer is
    // lost is let go by give_up(), or by itself after a while.
    const milliseconds deadline = keeper_.config().peer_timeout + seconds(10);
    const auto held = keeper_.engine().ask({{"request", "hold"}}, deadline);
    held_ = std::chrono::steady_clock::now();
    if (held || !keeper_.engine_is_running()) {
        return {};
    }
    return Failure(held.error());
}

void Swap::give_up() {
    (void)keeper_.engine().ask({{"request", "let-go"}}, seconds(5));
    if (is_attached_) {
        const auto usual =
            keeper_.devices().attach(device_, keeper_.paths().device_socket(), keeper_.name());
        if (!usual) {
            log(LogLevel::warning, "{}: {}", keeper_.name(), usual.error().text());
        }
    }
}

Result<void> Swap::end_old() {
    if (is_attached_) {
        if (auto quick = keeper_.devices().set_replay_after(device_, quick_replay); !quick) {
            return quick;
        }
        (void)stalls_->await_answers(old_requests_patience);
    }
    watch_.end_phase("prepare");
    auto ended = hold();
    watch_.end_phase("hold");
    if (ended) {
        ended = keeper_.end_engine(operation_);
    }
    if (!ended) {
        give_up();
        return ended;
    }
    if (is_attached_) {
        keeper_.devices().engine_gone(device_);
    }
    watch_.end_phase("end");
    return {};
}

Result<void> Swap::start_new() {
    if (auto started = keeper_.start_engine(operation_); !started) {
        keeper_.leave_start_to_supervisor(operation_, started.error());
        Error error = started.error();
        error.remedy =
            fmt::format("it is retried automatically; {}",
                        error.remedy.empty() ? fmt::format("mirrorctl status {}", keeper_.name())
                                             : error.remedy);
        return Failure(error);
    }
    watch_.end_phase("start");
    Result<void> connected;
    if (is_attached_) {
        connected =
            keeper_.devices().attach(device_, keeper_.paths().device_socket(), keeper_.name());
    }
    unserved_ = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - held_);
    watch_.end_phase("connect");
    if (connected && stalls_) {
        (void)stalls_->await_answers(replay_patience);
        watch_.end_phase("replay");
    }
    return connected;
}

SwapOutcome Swap::outcome() const {
    SwapOutcome result{
        .unserved = unserved_, .phases = watch_.phases(), .seconds = watch_.seconds()};
    if (stalls_ && stalls_->longest() >= least_stall) {
        result.stall = stalls_->longest();
    }
    return result;
}

}  // namespace

Result<void> require_swap(VolumeKeeper& keeper, const SwapOptions& options) {
    if (keeper.place() != Place::active) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} is not active on {}, so it has no engine",
                                         keeper.name(), keeper.node()),
                             fmt::format("mirrorctl promote {}", keeper.name())});
    }
    if (auto programs = require_engine_programs(keeper.node()); !programs) {
        return programs;
    }
    keeper.engine().forget_status();  // who is connected now counts
    const auto status = keeper.engine().status();
    if (!status) {
        return Failure(Error{ErrorKind::busy,
                             fmt::format("the engine of {} does not answer: {}", keeper.name(),
                                         status.error().message),
                             fmt::format("mirrorctl status {}", keeper.name())});
    }
    if (control::bool_field_or(*status, "local_failed", false).value_or(false)) {
        return Failure(no_other_engine(keeper.name(), keeper.node(), keeper.peer()));
    }
    const auto clients = control::uint_field(*status, "clients");
    const std::uint64_t others = besides_device(keeper, clients.value_or(0));
    if (others != 0 && !options.disconnect_clients) {
        return Failure(Error{ErrorKind::busy,
                             fmt::format("{} client connection{} would be disconnected", others,
                                         others == 1 ? "" : "s"),
                             "if the clients reconnect automatically (QEMU: reconnect-delay), add "
                             "--disconnect-clients; otherwise stop them first"});
    }
    return {};
}

Result<SwapOutcome> swap_engine(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                                const SwapOptions& options,
                                const std::function<Result<void>()>& between) {
    // A client that connects after this is cut off unasked, as by an engine's death, and connects
    // again as clients do then. The place stays, under the operation.
    if (auto possible = require_swap(keeper, options); !possible) {
        return Failure(possible.error());
    }
    Swap swap(keeper, operation);
    if (auto ended = swap.end_old(); !ended) {
        return Failure(ended.error());
    }
    const auto done = between();
    swap.end_phase("between");
    if (auto started = swap.start_new(); !started) {
        return Failure(done ? started.error() : done.error());
    }
    if (!done) {
        return Failure(done.error());
    }
    return swap.outcome();
}

}  // namespace mirror::daemon
