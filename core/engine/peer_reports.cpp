// SPDX-License-Identifier: BSD-3-Clause
// What the peer's supervisor learns and tells: state for status, events, log lines.
#include <algorithm>
#include <utility>

#include "core/base/log.hpp"
#include "core/engine/peer.hpp"

namespace mirror {

void Peer::set_link(const std::string& link) {
    MutexLock lock(mutex_);
    link_ = link;
}

void Peer::note_last_answer(const Session& session) {
    const WallTime answered = wall_time_of(session.last_answer(), parts_.clock);
    MutexLock lock(mutex_);
    last_seen_ = std::max(last_seen_.value_or(answered), answered);
}

void Peer::note_decision(const Decision& decision, const ReplicaSummary& theirs) {
    bool news = false;
    {
        MutexLock lock(mutex_);
        news = action_ != decision.action;
        action_ = decision.action;
        split_brain_ = action_ == Action::diverged ? decision.reason : std::string();
        replica_state_ = theirs.state;
        last_seen_ = parts_.clock.wall_now();
    }
    if (!news) {
        return;
    }
    if (decision.action == Action::diverged) {
        report(
            "diverged", Severity::error, decision.reason,
            "both replicas have writes that the other lacks",
            fmt::format("mirrorctl status {0} shows both sides; mirrorctl resolve {0} --keep NODE",
                        parts_.volume.name));
    } else if (decision.action == Action::peer_is_newer) {
        report("peer-newer", Severity::error, decision.reason, {},
               fmt::format("mirrorctl demote {}, then promote it on {}", parts_.volume.name,
                           peer_node_));
    }
}

void Peer::report(const std::string& id, Severity severity, const std::string& text,
                  const std::string& cause, const std::string& remedy) {
    parts_.events.record({.id = id,
                          .severity = severity,
                          .volume = parts_.volume.name,
                          .text = text,
                          .cause = cause,
                          .remedy = remedy});
}

void Peer::report_failure(const Error& error) {
    {
        MutexLock lock(mutex_);
        refusal_ = error.kind == ErrorKind::refused ? error.text() : std::string();
        if (last_failure_ == error.message) {
            return;  // said once is enough
        }
        last_failure_ = error.message;
    }
    if (error.kind == ErrorKind::refused) {
        report("session-refused", Severity::warning, error.message, {}, error.remedy);
    } else {
        log(LogLevel::warning, "volume {}: {}", parts_.volume.name, error.text());
    }
}

void Peer::report_break() {
    const Membership::View view = parts_.membership.view();
    {
        MutexLock lock(mutex_);
        last_failure_.clear();
        if (stop_) {
            return;
        }
    }
    report(
        "mirror-break", Severity::warning,
        fmt::format("{} no longer receives the writes of {}", peer_node_, parts_.node), view.why,
        parts_.membership.stops_without_peer()
            ? fmt::format("bring {} back: writes wait for it (on_peer_loss = \"stop\")", peer_node_)
            : fmt::format("bring {} back: changes are recorded and sent when it returns",
                          peer_node_));
}

}  // namespace mirror
