// SPDX-License-Identifier: BSD-3-Clause
// Knows how each peer node is: one thread a peer asks `peer-status` over a connection that it
// keeps, every 1 to 1.5 seconds, as peer_timeout allows, backing off with jitter while the peer is
// away. The listener is called from those threads with no lock held. view() and the asking
// functions may be called from any thread.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"
#include "core/control/mailbox.hpp"
#include "core/tls/standing.hpp"
#include "daemon/peer_answer.hpp"

namespace mirror::daemon {

class PeerWatch {
  public:
    enum class Change { appeared, answered, lost };
    using Listener = std::function<void(const std::string& node, const PeerView&, Change)>;

    explicit PeerWatch(const Context& context);
    ~PeerWatch();  ///< stops
    PeerWatch(const PeerWatch&) = delete;
    PeerWatch& operator=(const PeerWatch&) = delete;

    /// Once.
    [[nodiscard]] Result<void> start(Listener listener);
    /// After start(): a node that a reload of the configuration brought; nothing for one that is
    /// watched already. One thread at a time, and none while stop() runs or after it.
    [[nodiscard]] Result<void> add(const std::string& node);
    /// Ends the threads, each after the request it is in (two seconds at most). Idempotent.
    void stop();
    /// mirrord is on its end: what takes long gives up.
    [[nodiscard]] bool is_stopping() const;

    [[nodiscard]] PeerView view(const std::string& node) const;
    /// The same, asked now if the last answer is more than an instant old and the peer was there:
    /// a person who has just switched roles must not be shown the second before, nor one who asks
    /// after a peer that is gone what it said before that.
    [[nodiscard]] PeerView view_now(const std::string& node);
    /// Asks now, over a connection of its own. Checks that it is that node, with our protocol.
    [[nodiscard]] Result<PeerAnswer> ask_status(const std::string& node) const;
    /// Any request to a peer's mirrord, with the name of this node (`node`) and for whom it asks.
    /// However late the deadline: when the peer's machine gives no
    /// sign of life (daemon/silence.hpp), that is the answer.
    [[nodiscard]] Result<Json> ask(const std::string& node, const Json& request,
                                   std::chrono::milliseconds deadline) const;

    /// In a request: the user of the asking node for whom it asks, as that node says.
    static constexpr const char* asker_field = "for_uid";
    static constexpr std::chrono::milliseconds status_deadline{2000};

  private:
    struct Peer {
        std::string name;
        PeerView view;
        Thread thread;
    };

    void watch(Peer& peer);
    /// By the peer_timeout of the volumes that are shared with it now.
    [[nodiscard]] std::chrono::milliseconds interval_towards(const std::string& node) const;
    [[nodiscard]] Result<PeerAnswer> poll(
        const std::string& node, std::unique_ptr<control::MailboxClient>& connection) const;
    [[nodiscard]] Result<nbd::Address> address_of(const std::string& node) const;
    /// `standing` null: nothing is encrypted.
    [[nodiscard]] bool may_stay(const Peer& peer, const control::MailboxClient& connection,
                                tls::Standing* standing) const;
    void note_answer(Peer& peer, PeerAnswer answer, const std::optional<tls::Proof>& proof);
    void note_failure(Peer& peer, const Error& error);
    /// Sleeps; false when stopping.
    [[nodiscard]] bool pause(std::chrono::milliseconds time);
    [[nodiscard]] Json status_request(bool is_now) const;

    const Context& context_;
    Listener listener_;
    mutable Mutex mutex_;
    CondVar stopped_;
    bool stopping_ GUARDED_BY(mutex_) = false;
    /// The set grows under mutex_, which guards the views as well; an entry stays until the end.
    /// The threads belong to those who call start(), add() and stop(), one after another.
    std::map<std::string, Peer> peers_;
};

}  // namespace mirror::daemon
