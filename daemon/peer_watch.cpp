// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/peer_watch.hpp"

#include <algorithm>
#include <random>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/pages.hpp"
#include "core/events/asked_by.hpp"
#include "daemon/key_watch.hpp"
#include "daemon/silence.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds shortest_interval{1000};
/// A key that was taken out ends what was opened with it within two seconds, these included.
constexpr milliseconds longest_interval{1500};
constexpr milliseconds longest_pause{5000};

/// Three quarters to five quarters, so that nodes that lost each other do not ask in step.
milliseconds with_jitter(milliseconds time) {
    thread_local std::minstd_rand random{std::random_device{}()};
    return time * std::uniform_int_distribution<int>(75, 125)(random) / 100;
}

/// One that can't be reached needs no other remedy than that.
std::string remedy_of(const Error& error) {
    return was_reached(error) ? error.remedy : std::string();
}

Result<PeerAnswer> check_answer(const std::string& node, const Result<Json>& reply) {
    if (!reply) {
        return Failure(reply.error());
    }
    auto answer = parse_peer_answer(*reply);
    if (!answer) {
        return Failure(answer.error().within(node));
    }
    if (answer->node != node) {
        return fail(ErrorKind::protocol, "the mirrord at the address of {} is for node {}", node,
                    answer->node);
    }
    if (answer->protocol != control::protocol_version) {
        return Failure(Error{ErrorKind::protocol,
                             fmt::format("{} speaks protocol {}, this mirrord speaks {}", node,
                                         answer->protocol, control::protocol_version),
                             "install the same version of mirrordisk on both nodes"});
    }
    return answer;
}

}  // namespace

PeerWatch::PeerWatch(const Context& context) : context_(context) {
    for (const auto& [volume_name, volume] : context.used().volumes) {
        const std::string peer = volume.peer_of(context.node.name);
        if (!peer.empty()) {
            peers_.try_emplace(peer).first->second.name = peer;
        }
    }
}

PeerWatch::~PeerWatch() {
    stop();
}

Result<void> PeerWatch::start(Listener listener) {
    listener_ = std::move(listener);
    for (auto& [name, peer] : peers_) {
        auto started =
            start_thread(peer.thread, "peer-" + name, [this, &watched = peer] { watch(watched); });
        if (!started) {
            return started;  // the destructor ends the others
        }
    }
    return {};
}

Result<void> PeerWatch::add(const std::string& node) {
    Peer* peer = nullptr;
    {
        MutexLock lock(mutex_);
        if (stopping_ || node.empty()) {
            return {};
        }
        peer = &peers_.try_emplace(node).first->second;
        peer->name = node;
    }
    // Its thread is ours alone: stop() comes after the last add(). One that could not be started
    // is tried again at the next reload.
    return peer->thread.joinable()
               ? Result<void>()
               : start_thread(peer->thread, "peer-" + node, [this, peer] { watch(*peer); });
}

milliseconds PeerWatch::interval_towards(const std::string& node) const {
    milliseconds interval = longest_interval;
    for (const auto& [name, volume] : context_.used().volumes) {
        if (volume.peer_of(context_.node.name) == node) {
            interval = std::min(interval, std::max(volume.peer_timeout / 3, shortest_interval));
        }
    }
    return interval;
}

void PeerWatch::stop() {
    {
        MutexLock lock(mutex_);
        stopping_ = true;
        stopped_.notify_all();
    }
    for (auto& [name, peer] : peers_) {
        if (peer.thread.joinable()) {
            peer.thread.join();
        }
    }
}

PeerView PeerWatch::view(const std::string& node) const {
    MutexLock lock(mutex_);
    const auto found = peers_.find(node);
    return found == peers_.end() ? PeerView{} : found->second.view;
}

PeerView PeerWatch::view_now(const std::string& node) {
    constexpr milliseconds instant{50};
    PeerView known = view(node);
    if (!known.reachable || context_.clock.wall_now() - known.last_seen < instant) {
        return known;
    }
    auto answer = ask_status(node);
    if (!answer) {
        // The watching thread notes the loss, and tells the listener.
        known.reachable = false;
        known.error = why_not_seen(node, answer.error());
        known.remedy = remedy_of(answer.error());
        return known;
    }
    MutexLock lock(mutex_);
    PeerView& view = peers_.at(node).view;
    // The watching thread may have lost it meanwhile, or have a newer answer. That it comes back is
    // the thread's to find, and to tell.
    if (view.reachable && view.last_seen == known.last_seen) {
        view = {true, std::move(*answer), context_.clock.wall_now(), {}, view.tls};
    }
    return view;
}

Json PeerWatch::status_request(bool is_now) const {
    return {{"request", "peer-status"},
            {"node", context_.node.name},
            {"protocol", control::protocol_version},
            {"now", is_now}};
}

Result<PeerAnswer> PeerWatch::ask_status(const std::string& node) const {
    const auto each = [&](const Json& request) { return ask(node, request, status_deadline); };
    return check_answer(node, control::ask_for_pages(each, status_request(true),
                                                     {"settings", "volumes", "unusable"}));
}

Result<Json> PeerWatch::ask(const std::string& node, const Json& request,
                            milliseconds deadline) const {
    const auto address = address_of(node);
    if (!address) {
        return Failure(address.error());
    }
    Json signed_request = request;
    signed_request["node"] = context_.node.name;
    if (const AskedBy* const asker = AskedBy::current(); asker != nullptr && asker->uid) {
        signed_request[asker_field] = *asker->uid;
    }
    return control::ask_once(*address, node, signed_request, deadline, silence_of(context_.used()));
}

Result<nbd::Address> PeerWatch::address_of(const std::string& node) const {
    return context_.used().node(node).map([&](const NodeConfig* config) {
        return nbd::Address{
            .tcp = config->address, .unix_path = {}, .tls = context_.tls, .node = node};
    });
}

Result<PeerAnswer> PeerWatch::poll(const std::string& node,
                                   std::unique_ptr<control::MailboxClient>& connection) const {
    if (!connection) {
        const auto address = address_of(node);
        if (!address) {
            return Failure(address.error());
        }
        auto connected = control::MailboxClient::connect(*address, node, status_deadline);
        if (!connected) {
            return Failure(connected.error());
        }
        connection = std::make_unique<control::MailboxClient>(std::move(*connected));
    }
    const auto each = [&](const Json& request) { return connection->ask_at_once(request); };
    return check_answer(node, control::ask_for_pages(each, status_request(false),
                                                     {"settings", "volumes", "unusable"}));
}

bool PeerWatch::may_stay(const Peer& peer, const control::MailboxClient& connection,
                         tls::Standing* standing) const {
    const auto& proof = connection.proof();
    if (standing == nullptr || !proof || !standing->look(context_.clock.steady_now())) {
        return true;
    }
    const std::string objection = standing->objection_to(*proof);
    if (!objection.empty()) {
        context_.events.record(
            key_retired_event(fmt::format("our connection to {} is", peer.name), objection));
        return false;
    }
    const auto key = context_.tls->name_towards(peer.name);
    // Another one may be about to be retired.
    return proof->key.empty() || !key || *key == proof->key;
}

void PeerWatch::watch(Peer& peer) {
    std::unique_ptr<control::MailboxClient> connection;
    std::optional<tls::Standing> standing;
    if (context_.tls) {
        standing.emplace(context_.tls);
    }
    milliseconds next = interval_towards(peer.name);
    do {
        if (connection && !may_stay(peer, *connection, standing ? &*standing : nullptr)) {
            connection.reset();
        }
        bool had_connection = connection != nullptr;
        auto answer = poll(peer.name, connection);
        if (!answer && had_connection && answer.error().kind == ErrorKind::unreachable) {
            // A peer that restarted within the second was never away.
            connection.reset();
            answer = poll(peer.name, connection);
        }
        if (answer) {
            note_answer(peer, std::move(*answer), connection->proof());
            next = interval_towards(peer.name);
        } else {
            connection.reset();
            note_failure(peer, answer.error());
            next = std::min(next * 3 / 2, longest_pause);
        }
    } while (pause(with_jitter(next)));
}

void PeerWatch::note_answer(Peer& peer, PeerAnswer answer, const std::optional<tls::Proof>& proof) {
    PeerView view;
    bool appeared = false;
    {
        MutexLock lock(mutex_);
        appeared = !peer.view.reachable;
        peer.view = {true, std::move(answer), context_.clock.wall_now(), {}, proof};
        view = peer.view;
    }
    // From here on with the copy: view_now() may put a newer one there, which changes nothing of
    // what is told. This thread alone tells, so appeared and lost come in order.
    if (appeared) {
        context_.events.record(
            {"peer-seen", Severity::info, "",
             fmt::format("{} answers (version {})", peer.name, view.answer->version)});
    }
    listener_(peer.name, view, appeared ? Change::appeared : Change::answered);
}

void PeerWatch::note_failure(Peer& peer, const Error& error) {
    PeerView view;
    bool lost = false;
    bool told = false;
    const std::string why = why_not_seen(peer.name, error);
    {
        MutexLock lock(mutex_);
        lost = peer.view.reachable;
        told = peer.view.error == why;
        peer.view.reachable = false;
        peer.view.error = why;
        peer.view.remedy = remedy_of(error);
        view = peer.view;
    }
    if (lost) {
        context_.events.record({"peer-lost", Severity::warning, "",
                                was_reached(error)
                                    ? fmt::format("{} answers, but can't be used", peer.name)
                                    : fmt::format("{} can't be reached", peer.name),
                                error.message, error.remedy});
        listener_(peer.name, view, Change::lost);
    } else if (!told) {
        log(LogLevel::info, "{}{}{}", why, error.remedy.empty() ? "" : "; ", error.remedy);
    }
}

bool PeerWatch::is_stopping() const {
    MutexLock lock(mutex_);
    return stopping_;
}

bool PeerWatch::pause(milliseconds time) {
    const SteadyTime until = std::chrono::steady_clock::now() + time;
    MutexLock lock(mutex_);
    while (!stopping_ && stopped_.wait_until(lock, until) == std::cv_status::no_timeout) {
    }
    return !stopping_;
}

}  // namespace mirror::daemon
