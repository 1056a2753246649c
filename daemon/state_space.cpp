// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/state_space.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/statvfs.h>

#include "daemon/keepers.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::seconds period{5};
constexpr std::uint64_t ample = 64 * MiB;
/// Each volume has half a dozen files there; none can be made without one of these.
constexpr std::uint64_t few_files = 16;

}  // namespace

std::uint64_t StateSpace::low_mark() const noexcept {
    return std::min(ample, total_bytes / 10);
}

Result<StateSpace> state_space(const std::string& state_dir) {
    struct statvfs system {};
    if (::statvfs(state_dir.c_str(), &system) != 0) {
        return fail_errno(errno, state_dir);
    }
    const std::uint64_t unit = system.f_frsize;
    return StateSpace{.total_bytes = system.f_blocks * unit,
                      .free_bytes = system.f_bavail * unit,
                      .total_files = system.f_files,
                      .free_files = system.f_favail,
                      .read_only = (system.f_flag & ST_RDONLY) != 0};
}

std::string state_space_warning(const NodeConfig& node, const Result<StateSpace>& space) {
    const std::string what = fmt::format("the STATE_DIR of {}, {}", node.name, node.state_dir);
    if (!space) {
        return fmt::format("{}: {}; events, and changes of a volume's state, can't be recorded",
                           what, space.error().message);
    }
    if (space->read_only) {
        return fmt::format(
            "{}, is read-only: events, and changes of a volume's state, can't be recorded; make it "
            "writable again (the backings are not at fault)",
            what);
    }
    if (space->free_bytes < space->low_mark()) {
        return fmt::format(
            "{}, has {} free: free space there, before events are lost and volumes "
            "can't be made, grown or resolved",
            what, format_size(space->free_bytes));
    }
    if (space->total_files != 0 && space->free_files < few_files) {
        return fmt::format("{}, has room for {} more files: remove some there", what,
                           space->free_files);
    }
    return {};
}

Result<void> StateSpaceWatch::start() {
    return periodic_.start("state-space", period, [this] { look(); });
}

void StateSpaceWatch::stop() {
    periodic_.stop();
}

void StateSpaceWatch::look() {
    const std::string warning =
        state_space_warning(context_.node, state_space(context_.node.state_dir));
    if (!warning.empty() && !is_low_) {
        context_.events.record({.id = "state-dir-low",
                                .severity = Severity::warning,
                                .text = warning,
                                .remedy = "mirrorctl check"});
    } else if (warning.empty() && is_low_) {
        context_.events.record({.id = "state-dir-ok",
                                .text = fmt::format("the STATE_DIR of {}, {}, has room again",
                                                    context_.node.name, context_.node.state_dir)});
    }
    is_low_ = !warning.empty();
    for (const auto& [name, keeper] : keepers_) {
        keeper->tend_metadata();
    }
}

}  // namespace mirror::daemon
