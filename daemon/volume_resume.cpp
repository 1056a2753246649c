// SPDX-License-Identifier: BSD-3-Clause
// VolumeKeeper: a volume that was active here when mirrord ended, and whose engine is gone. Nobody
// here knows how long that lasted, and promoting the other node is what people do meanwhile. So
// the engine starts again when the peer says that this did not happen, and not before.
#include <algorithm>

#include "core/lineage/promotion.hpp"
#include "core/meta/transitions.hpp"
#include "daemon/volume_keeper.hpp"
#include "daemon/volume_steps.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds between_questions{500};

}  // namespace

std::optional<milliseconds> VolumeKeeper::resume_due() {
    milliseconds left{0};
    {
        MutexLock lock(mutex_);
        if (stopping_ || !operation_.empty()) {
            return std::nullopt;  // the operation's end wakes us
        }
        left = std::chrono::ceil<milliseconds>(restart_due_ - context_.clock.steady_now());
        if (!waiting_noted_) {
            return std::max(left, milliseconds(0));
        }
    }
    if (peers_.view(peer()).volume(name()) == nullptr) {
        return std::nullopt;  // its first answer wakes us
    }
    return std::max(left, milliseconds(0));
}

void VolumeKeeper::note_waiting(const std::string& cause) {
    {
        MutexLock lock(mutex_);
        restart_due_ = context_.clock.steady_now() + between_questions;
        if (std::exchange(waiting_noted_, true)) {
            return;
        }
    }
    record(
        "resume-waits", Severity::warning,
        fmt::format("{} was active on {} when mirrord ended; it resumes when {} confirms that it "
                    "did not take over",
                    name(), node(), peer()),
        cause,
        fmt::format("make {} reachable; or, if nobody uses {} there: on {}, mirrorctl promote {}",
                    peer(), name(), node(), name()));
}

bool VolumeKeeper::mirrord_was_away() const {
    MutexLock lock(mutex_);
    return !engine_has_run_;
}

/// Why the engine must not start again; nothing when it may. The lease ends before the question:
/// the caller has the operation, so that the peer gets no agreement here meanwhile. A session can
/// begin where the superblock says standby: take_role_again() looks for that. Where it says active
/// (restart_engine()) none can.
Result<std::optional<std::string>> VolumeKeeper::ask_whether_replaced() {
    ReplicaSummary ours;
    {
        const auto lease = replica();
        if (!lease) {
            return Failure(lease.error());
        }
        ours = (*lease)->summary();
    }
    if (auto why = why_not_serve(ours, peer())) {
        return why;
    }
    const auto answer = peers_.ask_status(peer());
    if (!answer) {
        Error error = answer.error();
        error.message = why_not_seen(peer(), error);
        return Failure(error);
    }
    const auto found = answer->volumes.find(name());
    if (found == answer->volumes.end()) {
        const NoReplica none = daemon::why_no_replica(*answer, name());
        return Failure(Error{ErrorKind::not_found, none.reason, none.remedy});
    }
    ReplicaSummary theirs = found->second.summary;
    theirs.role = found->second.role;
    return why_not_resume(ours, theirs);
}

/// While the peer was asked it may have begun a session with the replica here, as an active: that
/// took the token, and the next question finds out.
Result<void> VolumeKeeper::take_role_again() {
    const auto lease = replica();
    if (!lease) {
        return Failure(lease.error());
    }
    bool is_as_judged = false;
    auto taken = (*lease)->update([&](Superblock& block) {
        is_as_judged = block.last_active;
        if (is_as_judged) {
            mirror::resume(block);
        }
    });
    if (taken && !is_as_judged) {
        return fail(ErrorKind::busy, "in the meantime {} began to replicate {} to {}", peer(),
                    name(), node());
    }
    return taken.and_then([&] { return write_marker(); });
}

void VolumeKeeper::stay_standby(const Operation& operation, const std::string& reason) {
    drop_device(reason);
    auto settled = settle_as_standby(operation);
    record("demoted", Severity::warning,
           fmt::format("{} is standby on {} instead of being started again", name(), node()),
           settled ? reason : settled.error().message);
    steps_of(*this, "replaced").after_demote();
}

void VolumeKeeper::resume(const Operation& operation) {
    const auto replaced = ask_whether_replaced();
    if (!replaced) {
        return note_waiting(replaced.error().message);
    }
    if (*replaced) {
        return stay_standby(operation, **replaced);
    }
    if (auto taken = take_role_again(); !taken) {
        return note_waiting(taken.error().message);
    }
    close_replica(operation);
    if (auto started = start_engine(operation); !started) {
        return engine_start_failed(started.error());
    }
    record("engine-restarted", Severity::info,
           fmt::format("the engine of {} runs again on {}", name(), node()));
}

}  // namespace mirror::daemon
