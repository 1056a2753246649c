// SPDX-License-Identifier: BSD-3-Clause
// An NBD server on a Unix socket that serves all its clients with one thread: what many of them
// ask at a time costs one wake-up, one receive and one send each. For exports that answer later
// (core/nbd/async_export.hpp). The handshake, where a client may dawdle, is done by a thread of
// the pool before the loop gets the socket. An export of another kind (Export::wants_thread) stays
// with that thread until its client leaves.
//
// The loop is a job of the pool. When it is held up by the disk another job gets it (Turn). So
// "the loop's thread" is whoever has the turn; everything that is marked as the loop's is touched
// by that thread alone, and handed on with the turn.
//
// listen(), start() and stop() from one thread; everything else inside.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/fd.hpp"
#include "core/base/sync.hpp"
#include "core/base/worker_pool.hpp"
#include "core/nbd/async_export.hpp"
#include "core/nbd/export.hpp"
#include "core/nbd/listener.hpp"
#include "core/nbd/loop_client.hpp"
#include "core/nbd/ready_queue.hpp"
#include "core/nbd/turn.hpp"

namespace mirror::nbd {

class LoopServer {
  public:
    struct Limits {
        std::size_t clients = 64;  ///< with an export
        std::size_t handshaking = 32;
        /// So many more of each, for root and the user that we are.
        std::size_t kept_for_ours = 8;
        /// Bytes of answers to a client; then it has to fetch some first.
        std::size_t unsent = LoopClient::usual_unsent;
        std::chrono::milliseconds handshake_timeout{10000};
    };

    /// `provider` says who may open what and is asked for the export's traits; its data functions
    /// are called only where it wants a thread. The pool must have a thread for each job.
    LoopServer(ExportProvider& provider, AsyncExport& exported, WorkerPool& pool, Limits limits);
    ~LoopServer();  ///< stops
    LoopServer(const LoopServer&) = delete;
    LoopServer& operator=(const LoopServer&) = delete;

    /// Makes the socket file, for its owner alone; replaces a dead one, never a live one. Who
    /// connects waits for start().
    [[nodiscard]] Result<void> listen(const std::string& path);
    [[nodiscard]] Result<void> start();
    /// Ends all connections, and waits until none of their requests is under way any more.
    void stop() EXCLUDES(mutex_);

  private:
    struct Newcomer {
        Fd socket;
        Negotiated negotiated;
    };
    class Place;  ///< of a newcomer in the limits

    // The loop's.
    void lead() noexcept;
    [[nodiscard]] bool run_once();
    void wait_for_events(bool only_look);
    void take_ready();
    void take_newcomers() EXCLUDES(mutex_);
    void add(Newcomer newcomer);
    void accept_one() noexcept EXCLUDES(mutex_);
    void turn_away() noexcept;
    void handle(LoopClient& client, std::uint32_t events) noexcept;
    void touch(LoopClient& client);
    [[nodiscard]] bool settle_clients();
    [[nodiscard]] bool settle(LoopClient& client) noexcept EXCLUDES(mutex_);
    void watch(LoopClient& client);
    void end_all() EXCLUDES(mutex_);
    [[nodiscard]] bool is_over() EXCLUDES(mutex_);

    // The pool's.
    void shake_hands(Fd socket) noexcept EXCLUDES(mutex_);
    /// Who is to be the loop's, one at most.
    [[nodiscard]] std::list<Newcomer> negotiate(Fd& socket) EXCLUDES(mutex_);
    void serve_here(Stream& stream, int socket, const Negotiated& negotiated) EXCLUDES(mutex_);

    ExportProvider& provider_;
    AsyncExport& export_;
    WorkerPool& pool_;
    const Limits limits_;
    Turn turn_;
    ReadyQueue ready_;
    Fd poll_;

    // The loop's.
    std::optional<Listener> listener_;
    RequestStock stock_;
    std::list<LoopClient> clients_;
    std::vector<LoopClient*> touched_;
    bool ending_ = false;
    Fd spare_;  ///< given up for a newcomer when there are no more descriptors

    Mutex mutex_;
    CondVar changed_;
    bool running_ GUARDED_BY(mutex_) = false;
    bool stopping_ GUARDED_BY(mutex_) = false;
    std::size_t open_ GUARDED_BY(mutex_) = 0;
    std::list<int> handshaking_ GUARDED_BY(mutex_);  ///< their sockets, to be shut
    std::list<int> served_here_ GUARDED_BY(mutex_);  ///< likewise, of those with a thread
    std::list<Newcomer> newcomers_ GUARDED_BY(mutex_);
};

}  // namespace mirror::nbd
