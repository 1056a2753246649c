// SPDX-License-Identifier: BSD-3-Clause
// What stands behind a Link: the commands on their way, and the event thread that drives libnbd,
// keeps the deadline and calls the completions. Made by Link alone.
//
// Lock order: order_mutex_, libnbd's handle lock, mutex_. So nothing of libnbd is called with
// mutex_ held; libnbd's completions come with the handle lock held, and take mutex_.
//
// A command's way: free → outstanding (submit) → finished (by libnbd's completion, in whichever
// thread drove the handle, or by submit, when libnbd did not take it) → the event thread, which
// tells the caller → free. Nodes are spliced, so in the steady state nothing is allocated.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/base/sync.hpp"
#include "core/nbd/dial.hpp"
#include "core/nbd/link.hpp"
#include "core/nbd/link_frames.hpp"
#include "core/nbd/link_request.hpp"

namespace mirror::nbd {

class LinkDriver {
  public:
    LinkDriver(OpenedExport opened, LinkOptions options, std::string peer, Fd wake);
    ~LinkDriver();  ///< see ~Link
    LinkDriver(const LinkDriver&) = delete;
    LinkDriver& operator=(const LinkDriver&) = delete;

    /// Starts the event thread; once, before everything else.
    [[nodiscard]] Result<void> start();

    // Any thread; what they mean is said at Link.
    void submit(const LinkRequest& request, Link::Completion done) EXCLUDES(mutex_);
    void lose(Error error) EXCLUDES(mutex_);
    void on_lost(std::function<void(const Error&)> callback) EXCLUDES(mutex_);
    [[nodiscard]] bool is_lost() const noexcept { return lost_.load(); }
    [[nodiscard]] const std::string& peer() const noexcept { return peer_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] SteadyTime last_answer() const noexcept {
        return last_answer_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t bytes_written() const noexcept {
        return bytes_written_.load(std::memory_order_relaxed);
    }

  private:
    struct Command {
        LinkDriver* driver = nullptr;
        std::list<Command>::iterator self;
        LinkRequest request;
        SteadyTime submitted;
        Link::Completion done;
        int os_error = 0;
        std::string reason;  ///< when libnbd did not take it
        WireBuffer wire;     ///< what travels on a framed link, unless it is the caller's buffer
        std::span<const std::byte> payload;  ///< of a framed link's NBD write
        std::uint64_t at = 0;                ///< and where it goes
    };
    using Commands = std::list<Command>;

    // The caller's thread, on behalf of submit().
    /// The caller's own until they are enqueued.
    [[nodiscard]] Commands reserve(std::size_t commands) EXCLUDES(mutex_);
    void give_back(Commands& commands) EXCLUDES(mutex_);
    /// False when the link is lost; they stay the caller's then.
    [[nodiscard]] bool enqueue(Commands& commands) EXCLUDES(mutex_);
    void send(Command& command) EXCLUDES(mutex_);
    /// Leaves `commands` as they are when the link is lost.
    void send_framed(Commands& commands, const LinkRequest& request) EXCLUDES(mutex_, order_mutex_);
    [[nodiscard]] Error loss() EXCLUDES(mutex_);
    std::int64_t issue(Command& command) noexcept;
    std::int64_t issue_framed(Command& command) noexcept;
    void reject(Command& command) EXCLUDES(mutex_);

    // Whichever thread drives the handle.
    void finish(Command& command, int os_error) EXCLUDES(mutex_);
    [[nodiscard]] bool is_in_turn(const Command& command) EXCLUDES(mutex_);
    void wake_up() const noexcept;
    [[nodiscard]] bool is_broken() const noexcept;

    // The event thread.
    void run() EXCLUDES(mutex_);
    [[nodiscard]] bool must_end() EXCLUDES(mutex_);
    void wait_and_drive() EXCLUDES(mutex_);
    void drive(short events) EXCLUDES(mutex_);
    [[nodiscard]] SteadyTime next_turn() EXCLUDES(mutex_);
    [[nodiscard]] SteadyTime watch_due() const noexcept;
    void check_deadline() EXCLUDES(mutex_);
    void keep_watch() EXCLUDES(mutex_);
    void deliver_answers() EXCLUDES(mutex_);
    void end_lost() EXCLUDES(mutex_);
    void make_libnbd_let_go() noexcept;
    void tell(Commands& commands, const Error* why) EXCLUDES(mutex_);
    [[nodiscard]] Result<void> take_answer(Command& command) EXCLUDES(mutex_);
    [[nodiscard]] Error error_of(const Command& command) const;
    [[nodiscard]] bool means_garbled(const Command& command) const noexcept;
    [[nodiscard]] Error garbled(const std::string& what) const;

    const LinkOptions options_;
    const std::string peer_;  ///< for messages
    const bool framed_;
    const std::uint64_t size_;  ///< of the volume, framed or not
    const Fd socket_;
    const Fd wake_;
    const Handle handle_;

    std::atomic<bool> lost_{false};
    std::atomic<SteadyTime> last_answer_{std::chrono::steady_clock::now()};
    std::atomic<std::uint64_t> bytes_written_{0};
    /// The event thread will notice by itself when the socket takes more bytes.
    std::atomic<bool> watches_writes_{false};

    /// Frames are numbered, listed in outstanding_ and given to libnbd in one and the same order.
    Mutex order_mutex_;
    std::uint64_t last_frame_ GUARDED_BY(order_mutex_) = 0;

    Mutex mutex_;
    Commands free_ GUARDED_BY(mutex_);
    Commands outstanding_ GUARDED_BY(mutex_);  ///< oldest first
    Commands finished_ GUARDED_BY(mutex_);
    std::optional<Error> loss_ GUARDED_BY(mutex_);
    bool loss_announced_ GUARDED_BY(mutex_) = false;
    bool closing_ GUARDED_BY(mutex_) = false;
    std::function<void(const Error&)> on_lost_ GUARDED_BY(mutex_);

    // The event thread's own.
    Commands unanswered_;  ///< aborted by a connection that broke; they wait for on_lost
    std::vector<std::byte> watch_buffer_;
    SteadyTime next_watch_{};

    std::thread thread_;
};

}  // namespace mirror::nbd
