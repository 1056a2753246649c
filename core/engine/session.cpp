// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/session.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/base/json.hpp"
#include "core/control/comparison_requests.hpp"
#include "core/control/messages.hpp"
#include "core/nbd/frame.hpp"

namespace mirror {
namespace {

using control::Json;
using std::chrono::milliseconds;

/// A session begins only when older connections have drained, which may take a slow disk a while.
constexpr milliseconds least_control_timeout{10000};

/// An idle standby that falls silent is noticed within a second and peer_timeout.
constexpr milliseconds longest_watch{900};
/// Each link of a session has its own connection, and most of what may happen to one happens to
/// all: so one link looks after the peer, and the others look now and then.
constexpr milliseconds watch_of_others{30000};

/// All links of a session are framed, for nothing else on the way has a checksum worth the name.
/// A link that is encrypted will have one: the place to choose is here and in framed_name().
nbd::LinkOptions link_options(const PeerAddress& peer) {
    // A standby that works on what it has reads no more meanwhile. Its kernel says so, and our
    // kernel takes that for silence; but a dead machine is found by the link's own deadline.
    return {.connect_timeout = peer.timeout,
            .deadline = peer.timeout,
            .silence = std::max(nbd::silence_for(peer.timeout), nbd::patience_with_work),
            .framed = true,
            .peer_name = peer.node};
}

/// `rest` is "@SESSION", "/digest@SESSION" or "/changes".
std::string framed_name(const std::string& volume, const std::string& rest) {
    return volume + nbd::frames_prefix + rest;
}

}  // namespace

Result<std::unique_ptr<PeerControl>> PeerControl::connect(const PeerAddress& peer) {
    return connect_with(peer, std::max(peer.timeout, least_control_timeout));
}

Result<std::unique_ptr<PeerControl>> PeerControl::connect_urgent(const PeerAddress& peer) {
    return connect_with(peer, peer.timeout);
}

Result<std::unique_ptr<PeerControl>> PeerControl::connect_with(const PeerAddress& peer,
                                                               milliseconds deadline) {
    return control::MailboxClient::connect(peer.address, peer.node, deadline, peer.timeout,
                                           nbd::silence_for(peer.timeout))
        .map([](control::MailboxClient&& client) {
            return std::unique_ptr<PeerControl>(new PeerControl(std::move(client)));
        });
}

Result<Json> PeerControl::ask(const Json& request) {
    MutexLock lock(mutex_);
    return client_.ask(request);
}

Session::Session(PeerAddress peer, std::unique_ptr<PeerControl> control, std::string volume,
                 const SessionId& id, bool resync)
    : peer_(std::move(peer)),
      volume_(std::move(volume)),
      id_(id),
      resync_(resync),
      digester_(id_),
      control_(std::move(control)) {}

Result<std::shared_ptr<Session>> Session::begin(const PeerAddress& peer,
                                                std::unique_ptr<PeerControl> control,
                                                const Start& start) {
    const std::shared_ptr<Session> session(
        new Session(peer, std::move(control), start.volume, start.id, start.resync));
    if (auto watched = session->watch_progress(); !watched) {
        return Failure(watched.error());
    }
    Json request = session->message("session-begin");
    request["source"] = start.own_node;
    request["resync"] = start.resync;
    request["step"] = start.step;
    if (auto begun = session->control_->ask(request); !begun) {
        return Failure(begun.error());
    }
    auto urgent = PeerControl::connect_urgent(peer);
    if (!urgent) {
        return Failure(urgent.error());
    }
    session->urgent_ = std::move(*urgent);
    if (auto opened = session->open_links(); !opened) {
        return Failure(opened.error());
    }
    return session;
}

Result<void> Session::watch_progress() {
    auto progress = nbd::PeerProgress::connect(
        peer_.address, framed_name(volume_, nbd::progress_export), link_options(peer_));
    if (!progress) {
        return Failure(progress.error());
    }
    if (*progress) {
        control_->believe(**progress);
        MutexLock lock(mutex_);
        progress_ = std::move(*progress);
    }
    return {};
}

Result<void> Session::open_links() {
    const nbd::LinkOptions options = link_options(peer_);
    const std::string data_name = framed_name(volume_, "@" + to_string(id_));
    const std::string digest_name = framed_name(volume_, "/digest@" + to_string(id_));
    // The standby numbers its lanes in this order.
    std::size_t lane = nbd::first_connection_lane;
    for (const auto& [link, name] :
         {std::pair(&data_, data_name), {&bulk_, data_name}, {&digests_, digest_name}}) {
        // Nobody borrows that one, and the standby takes what it reads for a sign of life.
        const bool is_watch = link == &bulk_;
        nbd::LinkOptions own = options;
        own.watch_period = is_watch ? std::min(peer_.timeout / 2, longest_watch)
                                    : std::max(peer_.timeout, watch_of_others);
        auto connected = nbd::Link::connect(peer_.address, name, own);
        if (!connected) {
            return Failure(connected.error());
        }
        nbd::Link& opened = **connected;
        if (progress_) {
            opened.believe(*progress_, lane++);
        }
        {
            MutexLock lock(mutex_);
            *link = std::move(*connected);
        }
        opened.on_lost([this](const Error& error) { link_lost(error); });
    }
    if (progress_) {
        progress_->link().on_lost([this](const Error& error) { link_lost(error); });
    }
    MutexLock lock(mutex_);
    return loss_ ? Failure(*loss_) : Result<void>{};
}

Session::~Session() {
    // A link that is being lost looks at the others; they end when it can no longer find them.
    // What they ask goes last.
    std::unique_ptr<nbd::PeerProgress> progress;
    std::unique_ptr<PeerControl> control;
    std::array<std::unique_ptr<nbd::Link>, 3> links;
    MutexLock lock(mutex_);
    progress = std::move(progress_);
    control = std::move(control_);
    links = {std::move(data_), std::move(bulk_), std::move(digests_)};
    lock.unlock();
}

void Session::watch(const std::function<void(const Error&)>& on_lost) {
    std::optional<Error> loss;
    {
        MutexLock lock(mutex_);
        on_lost_ = on_lost;
        loss = loss_;
    }
    if (loss) {
        on_lost(*loss);
    }
}

void Session::link_lost(const Error& error) {
    std::function<void(const Error&)> report;
    {
        MutexLock lock(mutex_);
        if (loss_) {
            return;
        }
        loss_ = error;
        lost_ = true;
        report = on_lost_;
    }
    large_work_.end();
    if (report) {
        report(error);
    }
    // In between somebody may have taken the links out (the destructor), or begun the session's
    // end: both are looked at under the mutex again. One link alone is of no use, and its writes
    // must not linger on a half-dead session. Under the mutex, since the others may be on their way
    // in or out.
    MutexLock lock(mutex_);
    for (const auto* link : {&data_, &bulk_, &digests_}) {
        if (*link) {
            (*link)->lose(error.message);
        }
    }
    if (progress_) {
        progress_->link().lose(error.message);
    }
    // Nor may anybody go on waiting for an answer about a session that is over.
    if (!ending_ && control_ && urgent_) {
        control_->lose(error.message);
        urgent_->lose(error.message);
    }
}

void Session::lose(const std::string& reason) {
    // At once: who looks after the session must not find it alive after it was given up.
    lost_ = true;
    large_work_.end();
    MutexLock lock(mutex_);
    if (data_) {
        data_->lose(reason);
    }
}

std::vector<tls::Proof> Session::proofs() {
    std::vector<tls::Proof> proofs;
    const auto add = [&](const std::optional<tls::Proof>& proof) {
        if (proof) {
            proofs.push_back(*proof);
        }
    };
    MutexLock lock(mutex_);
    for (const auto* link : {&data_, &bulk_, &digests_}) {
        if (*link) {
            add((*link)->proof());
        }
    }
    if (progress_) {
        add(progress_->link().proof());
    }
    for (const auto* control : {&control_, &urgent_}) {
        if (*control) {
            add((*control)->proof());
        }
    }
    return proofs;
}

std::optional<Error> Session::loss() {
    MutexLock lock(mutex_);
    return loss_;
}

Json Session::message(const char* request) const {
    return {{"request", request}, {"volume", volume_}, {"session", to_string(id_)}};
}

Result<void> Session::tell_synced(const Lineage& lineage, std::uint64_t step) {
    Json request = message("session-synced");
    request["lineage"] = control::encode(lineage);
    request["step"] = step;
    return control_->ask(request).map([](const Json&) {});
}

Result<void> Session::tell_step(std::uint64_t step, bool urgent) {
    Json request = message("session-step");
    request["step"] = step;
    return (urgent ? urgent_ : control_)->ask(request).map([](const Json&) {});
}

Result<void> Session::tell_generation(const Lineage& lineage, bool confirmed) {
    Json request = message("generation");
    request["lineage"] = control::encode(lineage);
    request["confirmed"] = confirmed;
    return urgent_->ask(request).map([](const Json&) {});
}

Result<void> Session::tell_incomplete(std::uint64_t lacking_bytes, const std::string& why) {
    Json request = message("session-incomplete");
    request["lacking_bytes"] = lacking_bytes;
    request["why"] = why;
    return control_->ask(request).map([](const Json&) {});
}

Result<void> Session::tell_verify(const Json& record) {
    Json request = message("verify-record");
    request["record"] = record;
    return control_->ask(request).map([](const Json&) {});
}

Result<void> Session::tell_end(const std::string& reason) {
    {
        MutexLock lock(mutex_);
        ending_ = true;
    }
    Json request = message("session-end");
    request["reason"] = reason;
    return control_->ask(request).map([](const Json&) {});
}

Result<Bitmap> read_changes(const PeerAddress& peer, const std::string& volume,
                            std::uint64_t volume_size) {
    auto link =
        nbd::Link::connect(peer.address, framed_name(volume, "/changes"), link_options(peer));
    if (!link) {
        return Failure(link.error());
    }
    Bitmap regions(divide_up(volume_size, region_size));
    const std::uint64_t bytes = divide_up(regions.size(), 8);
    if ((*link)->export_size() < bytes) {
        return fail(ErrorKind::protocol, "{}: {}/changes has {} bytes, not {}", peer.node, volume,
                    (*link)->export_size(), bytes);
    }
    std::vector<std::byte> buffer(std::min<std::uint64_t>(bytes, 1 * MiB));
    for (std::uint64_t offset = 0; offset < bytes; offset += buffer.size()) {
        const std::span<std::byte> part(buffer.data(),
                                        std::min<std::uint64_t>(buffer.size(), bytes - offset));
        if (auto read = (*link)->read(part, offset); !read) {
            return Failure(read.error());
        }
        control::add_listed_regions(part, offset * 8, regions);
    }
    return regions;
}

}  // namespace mirror
