// SPDX-License-Identifier: BSD-3-Clause
// What stands behind a Link: the commands on their way, the sending of them, and the event thread
// that receives the answers, keeps the deadline and calls the completions. Made by Link alone.
//
// A command's way: free → queued_ (submit) → outstanding_ (when its sending begins) → answered by
// the event thread, which tells the caller → free. Nodes are spliced, so in the steady state
// nothing is allocated.
//
// Sending: whoever submits and finds nobody sending sends what is queued until nothing is; the
// others leave theirs in the queue. When the socket is full the event thread goes on. So there is
// one sender at a time, without a lock being held while it sends, and commands that are submitted
// by many threads at once leave together.
//
// Receiving: the event thread, or while the link is lent whoever has borrowed it. One at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"
#include "core/nbd/channel.hpp"
#include "core/nbd/dial.hpp"
#include "core/nbd/link.hpp"
#include "core/nbd/link_frames.hpp"
#include "core/nbd/link_request.hpp"
#include "core/nbd/wire.hpp"

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
    void begin_batch() EXCLUDES(mutex_);
    void end_batch() EXCLUDES(mutex_);
    void lend(int poll, void* mark) EXCLUDES(mutex_);
    void receive_lent() EXCLUDES(mutex_);
    void take_back() EXCLUDES(mutex_);
    void lose(Error error) EXCLUDES(mutex_);
    void on_lost(std::function<void(const Error&)> callback) EXCLUDES(mutex_);
    void believe(SignsOfLife& signs, std::size_t lane) EXCLUDES(mutex_);
    [[nodiscard]] bool is_lost() const noexcept { return lost_.load(); }
    [[nodiscard]] const std::string& peer() const noexcept { return peer_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] const std::optional<tls::Proof>& proof() const noexcept { return proof_; }
    [[nodiscard]] SteadyTime last_answer() const noexcept {
        return last_answer_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t bytes_written() const noexcept {
        return bytes_written_.load(std::memory_order_relaxed);
    }

  private:
    struct Command {
        LinkRequest request;
        SteadyTime submitted;
        Link::Completion done;
        int os_error = 0;  ///< the peer's answer
        WireBuffer wire;   ///< what travels on a framed link, unless it is the caller's buffer
        std::span<const std::byte> payload;  ///< behind the header
        std::span<std::byte> answer;         ///< where the data of a read go
        std::uint64_t cookie = 0;
        std::array<std::byte, Request::wire_size> header{};
        bool is_sent = false;  ///< wholly; until then the sender reads it

        [[nodiscard]] std::size_t wire_length() const noexcept {
            return header.size() + payload.size();
        }
    };
    using Commands = std::list<Command>;

    // The caller's thread, on behalf of submit().
    /// The caller's own until they are enqueued.
    [[nodiscard]] Commands reserve(std::size_t commands) EXCLUDES(mutex_);
    void give_back(Commands& commands) EXCLUDES(mutex_);
    [[nodiscard]] Error loss() EXCLUDES(mutex_);
    void prepare_plain(Command& command) noexcept;
    [[nodiscard]] FrameHeader prepare_framed(Commands& commands, std::uint32_t& sum);
    /// False when the link is lost; they stay the caller's then.
    [[nodiscard]] bool enqueue(Commands& commands, FrameHeader* frame, std::uint32_t sum)
        REQUIRES(mutex_);

    // Whoever sends.
    void send_queued() EXCLUDES(mutex_);
    void fill_batch() REQUIRES(mutex_);
    [[nodiscard]] std::size_t gather() noexcept;
    void note_sent(std::size_t bytes) REQUIRES(mutex_);
    void go_on_sending() EXCLUDES(mutex_);
    void wake_up() const noexcept;

    // Whoever receives.
    [[nodiscard]] bool begin_receiving(bool borrowed) EXCLUDES(mutex_);
    void end_receiving() EXCLUDES(mutex_);
    void receive_all() EXCLUDES(mutex_);
    [[nodiscard]] Result<bool> receive_some() EXCLUDES(mutex_);
    [[nodiscard]] Result<void> take_replies() EXCLUDES(mutex_);
    [[nodiscard]] Result<void> begin_reply(std::span<const std::byte> header) EXCLUDES(mutex_);
    void fill_answer(std::span<const std::byte>& bytes) noexcept;
    void finish_reply() EXCLUDES(mutex_);
    [[nodiscard]] Command* find_outstanding(std::uint64_t cookie) EXCLUDES(mutex_);

    // The event thread.
    void run() EXCLUDES(mutex_);
    [[nodiscard]] bool must_end() EXCLUDES(mutex_);
    void wait_and_drive() EXCLUDES(mutex_);
    [[nodiscard]] SteadyTime next_turn() EXCLUDES(mutex_);
    [[nodiscard]] std::chrono::milliseconds watch_period() const noexcept;
    [[nodiscard]] SteadyTime watch_due() const noexcept;
    /// Until when there is nothing to do but to wait for the answer to a look after an idle peer,
    /// which need not be taken at once; none: there is more.
    [[nodiscard]] std::optional<SteadyTime> may_doze_until() const REQUIRES(mutex_);
    /// Whether nothing has happened for so long that the event thread may sleep for the whole
    /// period of the watch.
    [[nodiscard]] bool may_rest() const REQUIRES(mutex_);
    void stop_dozing() EXCLUDES(mutex_);
    [[nodiscard]] std::optional<SteadyTime> oldest() const noexcept REQUIRES(mutex_);
    /// When the peer counts as silent, if it does not answer a command of `submitted`.
    [[nodiscard]] SteadyTime silent_at(SteadyTime submitted, const SignsOfLife* signs) const;
    void check_deadline() EXCLUDES(mutex_);
    [[nodiscard]] Error silence(SteadyTime submitted, const SignsOfLife* signs) const;
    void look_for_signs() EXCLUDES(mutex_);
    void keep_watch() EXCLUDES(mutex_);
    void say_goodbye();
    void end_lost() EXCLUDES(mutex_);
    void tell(Commands& commands, const Error* why) EXCLUDES(mutex_);
    [[nodiscard]] Result<void> take_answer(Command& command) EXCLUDES(mutex_);
    void connection_failed(const Error& error) EXCLUDES(mutex_);
    [[nodiscard]] Error error_of(const LinkRequest& request, int os_error,
                                 const char* reason) const;
    [[nodiscard]] bool means_garbled(int os_error) const noexcept;
    [[nodiscard]] Error garbled(const std::string& what) const;

    const LinkOptions options_;
    const std::string peer_;  ///< for messages
    const bool framed_;
    const ExportFacts facts_;
    const std::uint64_t size_;  ///< of the volume, framed or not
    const std::optional<tls::Proof> proof_;
    const Fd wake_;
    Channel channel_;

    std::atomic<bool> lost_{false};
    std::atomic<SteadyTime> last_answer_{std::chrono::steady_clock::now()};
    std::atomic<std::uint64_t> bytes_written_{0};

    Mutex mutex_;
    CondVar sender_gone_;
    Commands free_ GUARDED_BY(mutex_);
    Commands queued_ GUARDED_BY(mutex_);
    Commands outstanding_ GUARDED_BY(mutex_);  ///< oldest first
    std::uint64_t last_cookie_ GUARDED_BY(mutex_) = 0;
    std::uint64_t last_frame_ GUARDED_BY(mutex_) = 0;
    bool is_sending_ GUARDED_BY(mutex_) = false;
    /// The socket is full: only the event thread sends, when there is room.
    bool is_blocked_ GUARDED_BY(mutex_) = false;
    unsigned batches_ GUARDED_BY(mutex_) = 0;  ///< begun and not ended: nobody sends
    /// The event thread waits for no answer: who submits something wakes it.
    bool is_dozing_ GUARDED_BY(mutex_) = false;
    CondVar receiver_gone_;
    bool is_receiving_ GUARDED_BY(mutex_) = false;
    int lent_to_ GUARDED_BY(mutex_) = -1;  ///< the borrower's epoll instance
    std::optional<Error> loss_ GUARDED_BY(mutex_);
    bool loss_announced_ GUARDED_BY(mutex_) = false;
    bool closing_ GUARDED_BY(mutex_) = false;
    std::function<void(const Error&)> on_lost_ GUARDED_BY(mutex_);
    SignsOfLife* signs_ GUARDED_BY(mutex_) = nullptr;
    std::atomic<std::size_t> lane_{0};  ///< of the signs; set before them

    // The sender's own, handed on with is_sending_ under the mutex.
    std::vector<Command*> batch_;
    std::size_t batch_sent_ = 0;  ///< bytes of the first of the batch
    std::vector<iovec> pieces_;

    // The receiver's own, handed on with is_receiving_ under the mutex.
    RawBuffer input_;
    std::size_t input_begin_ = 0;
    std::size_t input_end_ = 0;
    Command* replying_ = nullptr;  ///< whose answer is being received
    bool is_late_ = false;         ///< what is received may have been there for a while
    std::size_t answer_filled_ = 0;
    Commands answered_;

    // The event thread's own.
    std::vector<std::byte> watch_buffer_;
    SteadyTime next_watch_{};
    SteadyTime next_look_{};

    Thread thread_;
};

}  // namespace mirror::nbd
