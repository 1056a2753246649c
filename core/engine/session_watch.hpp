// SPDX-License-Identifier: BSD-3-Clause
// Ends the session with a peer that what it showed would no longer let in: its key was taken out of
// the file here, or its certificate revoked. Without it the active would send every write to a node
// that was put out, for as long as the link lives. It is a loss as any other: writes go on alone,
// what the peer lacks is recorded, and the peer's supervisor tries again with what is valid now.
//
// A thread of its own, since a file may hang with its disk: nothing that writes wait for is held up
// by it, nor the session's end in good order.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/base/clock.hpp"
#include "core/base/periodic.hpp"
#include "core/base/sync.hpp"
#include "core/engine/membership.hpp"
#include "core/events/event_log.hpp"
#include "core/tls/standing.hpp"

namespace mirror {

class SessionWatch {
  public:
    struct Names {
        std::string volume;
        std::string peer;
    };

    SessionWatch(Names names, Membership& membership, EventLog& events, const Clock& clock)
        : names_(std::move(names)), membership_(membership), events_(events), clock_(clock) {}
    ~SessionWatch() { stop(); }
    SessionWatch(const SessionWatch&) = delete;
    SessionWatch& operator=(const SessionWatch&) = delete;

    [[nodiscard]] Result<void> start();
    void stop();
    /// What is wrong with that by which the session's links were opened; empty: nothing.
    [[nodiscard]] std::string fault() const EXCLUDES(mutex_);

  private:
    void look();
    [[nodiscard]] std::string objection_to(Session& session);
    void set_fault(const std::string& fault) EXCLUDES(mutex_);

    const Names names_;
    Membership& membership_;
    EventLog& events_;
    const Clock& clock_;
    // The thread's own.
    std::shared_ptr<const tls::Credentials> credentials_;
    std::optional<tls::Standing> standing_;

    mutable Mutex mutex_;
    std::string fault_ GUARDED_BY(mutex_);
    Periodic periodic_;
};

}  // namespace mirror
