// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/key_watch.hpp"

#include <algorithm>
#include <map>

#include "core/base/log.hpp"

namespace mirror::daemon {
namespace {

std::string host_of(const nbd::Server::Guest& guest) {
    return guest.address.substr(0, guest.address.rfind(':'));
}

std::string describe(const nbd::Server::Guest& guest) {
    return guest.proof.node.empty() ? host_of(guest)
                                    : fmt::format("{} at {}", guest.proof.node, host_of(guest));
}

}  // namespace

Event key_retired_event(const std::string& whose, const std::string& objection) {
    return {"key-retired-link-ended",
            Severity::warning,
            "",
            fmt::format("{} ended", whose),
            objection,
            "a node that should stay reconnects with the current key or certificate: mirrorctl "
            "check says what it lacks"};
}

Result<void> KeyWatch::start() {
    if (!context_.tls) {
        return {};
    }
    standing_.emplace(context_.tls);
    return periodic_.start("keys", tls::Standing::period, [this] { look(); });
}

void KeyWatch::stop() {
    periodic_.stop();
}

void KeyWatch::look() {
    if (!standing_->look(context_.clock.steady_now())) {
        return;
    }
    tell_trouble();
    tell_keys();
    // Each time: somebody may have shown a key just before it went, and opened an export after.
    end_connections();
}

void KeyWatch::tell_trouble() {
    const std::string& trouble = standing_->trouble();
    if (!trouble.empty() && !in_trouble_) {
        context_.events.record({"key-file-unusable", Severity::warning, "",
                                "no new connection is accepted, and no new link starts", trouble,
                                "mirrorctl check"});
    }
    in_trouble_ = !trouble.empty();
}

void KeyWatch::tell_keys() {
    auto keys = context_.tls->names();
    if (keys && *keys != keys_ && context_.tls->mode() == TlsMode::psk) {
        log(LogLevel::info, "the cluster's keys: {}", fmt::join(*keys, ", "));
        keys_ = std::move(*keys);
    }
}

/// Certificates are verified without the server's lock, and each once, however many connections
/// showed it.
void KeyWatch::end_connections() {
    std::map<std::string, std::string> objections;  // by digest
    Told found;
    for (const nbd::Server::Guest& guest : server_.guests()) {
        const auto [judged, is_new] = objections.try_emplace(guest.proof.digest);
        if (is_new) {
            judged->second = standing_->objection_to(guest.proof);
        }
        if (!judged->second.empty()) {
            found.emplace(describe(guest), judged->second);
        }
    }
    if (!found.empty()) {
        server_.end_connections_of([&](const tls::Proof& proof) {
            const auto judged = objections.find(proof.digest);
            return judged != objections.end() && !judged->second.empty();
        });
    }
    for (const auto& [whose, objection] : found) {
        // One that is in a request ends after it, and is seen once more.
        if (told_.count({whose, objection}) == 0) {
            context_.events.record(
                key_retired_event(fmt::format("the connections of {} are", whose), objection));
        }
    }
    told_ = std::move(found);
}

}  // namespace mirror::daemon
