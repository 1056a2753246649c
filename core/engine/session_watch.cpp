// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/session_watch.hpp"

#include "core/engine/session.hpp"

namespace mirror {
namespace {

/// A key that was taken out ends the session within about two seconds; there is one of these for
/// each volume.
constexpr std::chrono::seconds period{2};

}  // namespace

Result<void> SessionWatch::start() {
    return periodic_.start("session-watch", period, [this] { look(); });
}

void SessionWatch::stop() {
    periodic_.stop();
}

std::string SessionWatch::fault() const {
    MutexLock lock(mutex_);
    return fault_;
}

void SessionWatch::set_fault(const std::string& fault) {
    MutexLock lock(mutex_);
    fault_ = fault;
}

/// The session may be over by the time it is lost here, and another one run: that is looked at the
/// next time.
void SessionWatch::look() {
    const auto session = membership_.parties().session;
    if (!session || !session->credentials()) {
        set_fault({});
        return;
    }
    const std::string objection = objection_to(*session);
    if (objection.empty()) {
        return;
    }
    session->lose(fmt::format("the session was ended here, since {}", objection));
    events_.record(
        {.id = "key-retired-link-ended",
         .severity = Severity::warning,
         .volume = names_.volume,
         .text = fmt::format("the session with {} was ended: no more writes are sent to it",
                             names_.peer),
         .cause = objection,
         .remedy = fmt::format("to keep {} in the mirror, give it the key or certificate that is "
                               "valid now: mirrorctl check",
                               names_.peer)});
}

std::string SessionWatch::objection_to(Session& session) {
    if (!standing_ || credentials_ != session.credentials()) {
        credentials_ = session.credentials();
        standing_.emplace(credentials_);
    }
    if (!standing_->look(clock_.steady_now())) {
        return {};
    }
    for (const tls::Proof& proof : session.proofs()) {
        if (std::string objection = standing_->objection_to(proof); !objection.empty()) {
            set_fault(objection);
            return objection;
        }
    }
    const std::string& trouble = standing_->trouble();
    set_fault(trouble.empty() ? trouble : "it could not be opened again: " + trouble);
    return {};
}

}  // namespace mirror
