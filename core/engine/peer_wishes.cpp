// SPDX-License-Identifier: BSD-3-Clause
// What others want of the peer's supervisor, and what they may see of it.
#include <utility>

#include "core/engine/peer.hpp"

namespace mirror {

void Peer::hint() {
    MutexLock lock(mutex_);
    hinted_ = true;
    wake_.notify_all();
}

Result<std::string> Peer::disconnect() {
    if (auto recorded = parts_.meta.update([](Superblock& block) { block.paused = true; });
        !recorded) {
        return Failure(recorded.error());
    }
    MutexLock lock(mutex_);
    const bool was = paused_;
    paused_ = true;
    if (resync_) {
        resync_->stop();
    }
    wake_.notify_all();
    while (!idle_ && !stop_) {
        wake_.wait(lock);
    }
    return was ? fmt::format("{} was disconnected already", peer_node_)
               : fmt::format("{} is disconnected; writes continue on {} alone", peer_node_,
                             parts_.node);
}

Result<void> Peer::require_no_split_brain() const {
    MutexLock lock(mutex_);
    if (split_brain_.empty()) {
        return {};
    }
    return Failure(Error{ErrorKind::refused,
                         fmt::format("{} is a split brain: {}", parts_.volume.name, split_brain_),
                         fmt::format("mirrorctl resolve {} --keep NODE", parts_.volume.name)});
}

Result<std::string> Peer::connect() {
    if (auto recorded = parts_.meta.update([](Superblock& block) { block.paused = false; });
        !recorded) {
        return Failure(recorded.error());
    }
    bool was = false;
    {
        MutexLock lock(mutex_);
        was = std::exchange(paused_, false);
    }
    if (was) {
        parts_.membership.may_return(fmt::format(
            "{} was disconnected; mirrorctl connect was requested, and it has not replied yet",
            peer_node_));
        report("connected", Severity::info, fmt::format("{} may reconnect", peer_node_),
               "mirrorctl connect was requested");
    }
    // In a split brain, too: what was true at the last attempt may have been resolved since.
    hint();
    if (auto possible = require_no_split_brain(); !possible) {
        return Failure(possible.error());
    }
    return was ? fmt::format("connecting to {}", peer_node_)
               : fmt::format("{} was not disconnected; trying it now", peer_node_);
}

Result<void> Peer::suspend(SteadyTime until) {
    MutexLock lock(mutex_);
    suspended_ = true;
    if (resync_) {
        resync_->stop();
    }
    wake_.notify_all();
    // The supervisor looks at the wish at its next step. Whoever wants the opposite meanwhile
    // (go_on) wakes nobody here: the session's end is waited for all the same.
    // An attempt to reach the peer may take long, and has nothing to end in good order.
    while (!idle_ && !stop_ && parts_.membership.parties().session) {
        if (wake_.wait_until(lock, until) == std::cv_status::timeout) {
            return fail(ErrorKind::timed_out, "the session with {} could not be ended in time",
                        peer_node_);
        }
    }
    return {};
}

void Peer::go_on() {
    if (MutexLock lock(mutex_); !std::exchange(suspended_, false) || paused_) {
        return;
    }
    parts_.membership.await_first_attempt(std::chrono::steady_clock::now() + timeout());
    hint();
}

Peer::Way Peer::way() const {
    MutexLock lock(mutex_);
    return way_;
}

std::chrono::milliseconds Peer::timeout() const {
    MutexLock lock(mutex_);
    return way_.address.timeout;
}

void Peer::take(PeerAddress address, std::map<std::string, std::string> settings,
                bool is_other_way) {
    MutexLock lock(mutex_);
    way_ = {std::move(address), std::move(settings), way_.number + (is_other_way ? 1 : 0)};
    hinted_ = true;
    wake_.notify_all();
}

void Peer::renew() {
    MutexLock lock(mutex_);
    // One that began with these, or begins now, has nothing to be renewed.
    renewal_wanted_ = session_way_ != way_.number;
    wake_.notify_all();
}

bool Peer::begins_renewal() {
    {
        MutexLock lock(mutex_);
        if (!std::exchange(renewal_wanted_, false)) {
            return false;
        }
    }
    renews_ = true;
    // Before the session ends: nothing is to be answered alone for want of milliseconds.
    parts_.membership.await_first_attempt(std::chrono::steady_clock::now() + timeout());
    return true;
}

Result<void> Peer::may_resync() const {
    {
        MutexLock lock(mutex_);
        if (paused_) {
            return Failure(Error{ErrorKind::refused,
                                 fmt::format("{} is disconnected from {}", peer_node_, parts_.node),
                                 fmt::format("mirrorctl connect {}", parts_.volume.name)});
        }
    }
    if (auto possible = require_no_split_brain(); !possible) {
        return possible;
    }
    if (!parts_.membership.parties().local) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("the replica on {} failed, so {} has the only good copy",
                                         parts_.node, peer_node_),
                             fmt::format("mirrorctl switch {} --to {}, then repair the disk of {}",
                                         parts_.volume.name, peer_node_, parts_.node)});
    }
    return {};
}

Result<std::string> Peer::resync(bool full) {
    if (auto possible = may_resync(); !possible) {
        hint();  // what was true at the last attempt may have been resolved since
        return Failure(possible.error());
    }
    const Membership::Parties parties = parts_.membership.parties();
    // The session may end before the wish is left: then the next one's hold() finds it. Or one may
    // begin: its resync, or that of the session after it, finds what is marked here.
    const bool in_session = parties.session != nullptr;
    if (full && !in_session) {
        if (auto marked = parts_.differences.suspect_all(); !marked) {
            return Failure(marked.error());
        }
    }
    MutexLock lock(mutex_);
    full_wanted_ = full_wanted_ || (full && in_session);
    again_wanted_ = again_wanted_ || in_session;
    hinted_ = true;
    wake_.notify_all();
    if (!in_session) {
        return fmt::format("{} is not connected; the resync starts when it is", peer_node_);
    }
    return full ? fmt::format("comparing everything with {}", peer_node_)
                : fmt::format("{} is connected; differing blocks are being sent", peer_node_);
}

Peer::View Peer::view() const {
    MutexLock lock(mutex_);
    View view{link_,       action_,      replica_state_, last_seen_,
              {},          last_resync_, paused_,        paused_ ? std::string() : refusal_,
              split_brain_};
    view.session_begun = begun_for_others_;
    if (resync_) {
        view.resync = resync_->progress();
    }
    if (parts_.membership.view().mode == MirrorMode::incomplete) {
        view.incomplete = describe_incomplete();
    }
    if (const auto session = parts_.membership.parties().session) {
        view.tls = session->data().proof();
        view.tls_fault = session_watch_.fault();
        view.is_outdated = session_way_ != way_.number;
        const auto age = parts_.clock.steady_now() - session->last_answer();
        view.last_seen =
            parts_.clock.wall_now() - std::chrono::duration_cast<std::chrono::microseconds>(age);
        view.replica_state = parts_.membership.view().mode == MirrorMode::in_sync
                                 ? ReplicaState::up_to_date
                                 : ReplicaState::inconsistent;
    }
    return view;
}

}  // namespace mirror
