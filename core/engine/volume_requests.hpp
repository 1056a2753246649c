// SPDX-License-Identifier: BSD-3-Clause
// The submitting form of a volume's requests, for the express door: many under way with few
// threads. A write that has nothing to wait for (its range is free, its intent durable, the peer in
// session) takes the same steps as Volume::apply(), but never waits between them: it is sent to
// the peer, written here, and answered when the second of the two is done. Whatever would have to
// wait, or goes wrong, is handed to a thread of the pool, which runs Volume's blocking code: the
// hard cases exist once.
//
// The functions of AsyncExport belong to the loop's thread; what other threads bring back goes
// through VolumeRequest's counter of legs and AsyncRequest::ready().
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "core/base/gate.hpp"
#include "core/base/sync.hpp"
#include "core/base/worker_pool.hpp"
#include "core/engine/volume.hpp"
#include "core/nbd/async_export.hpp"
#include "core/nbd/link_batch.hpp"

namespace mirror {

class VolumeRequest final : public nbd::AsyncRequest {
  private:
    friend class VolumeRequests;

    enum class Stage {
        legs,     ///< on its way to the peer and to the local disk
        settled,  ///< a thread of the pool has the result, or is about to
    };

    Stage stage_ = Stage::settled;
    std::optional<Gate::Pass> pass_;
    Underway underway_;
    Result<void> local_;
    Result<void> peer_;
    std::atomic<int> legs_left_{0};
    VolumeRequest* next_ = nullptr;  ///< in whichever Chain it is
};

class VolumeRequests final : public nbd::AsyncExport {
  public:
    /// Both must stay until the pool has no jobs any more.
    VolumeRequests(Volume& volume, WorkerPool& pool) : volume_(volume), pool_(pool) {}

    void use_poll(int poll, void* mark) override;
    void receive() override;
    [[nodiscard]] std::unique_ptr<nbd::AsyncRequest> make_request() override;
    [[nodiscard]] bool read_at_once(std::span<std::byte> into, std::uint64_t offset) override;
    [[nodiscard]] bool begin(nbd::AsyncRequest& request) override;
    [[nodiscard]] bool go_on(nbd::AsyncRequest& request) override;
    [[nodiscard]] bool end_batch(nbd::Turn& turn) override;

  private:
    /// Requests one behind the other, in order.
    class Chain {
      public:
        [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
        void add(VolumeRequest& request) noexcept;
        void add_all(Chain& others) noexcept;
        VolumeRequest& take_first() noexcept;

      private:
        VolumeRequest* first_ = nullptr;
        VolumeRequest* last_ = nullptr;
    };

    // The loop's thread.
    /// Takes what the request holds, if nothing of it has to be waited for. All that may fail for
    /// memory; nobody else knows the request yet.
    [[nodiscard]] bool prepare(VolumeRequest& request);
    [[nodiscard]] bool take_way(VolumeRequest& request);
    [[nodiscard]] bool take_way_of_flush(VolumeRequest& request);
    void send_legs(VolumeRequest& request) noexcept;
    void join_batch(const std::shared_ptr<Session>& session);
    void borrow(const std::shared_ptr<Session>& session);
    void let_go_of(std::shared_ptr<Session> session);
    void hand_to_pool(VolumeRequest& request);
    [[nodiscard]] bool is_clean(const VolumeRequest& request) const;
    static void let_go(VolumeRequest& request);
    [[nodiscard]] bool write_here(VolumeRequest& request, nbd::Turn& turn);
    void write_in_pool(VolumeRequest& request);

    // Any thread.
    static void leg_done(VolumeRequest& request);
    static void local_done(VolumeRequest& request, Result<void> result);
    void make_durable(Chain requests) EXCLUDES(flush_mutex_);
    void note_failure(const Error& error);

    // The pool's threads.
    void perform(VolumeRequest& request) noexcept;
    void settle(VolumeRequest& request) noexcept;
    void flush_waiting() EXCLUDES(flush_mutex_);

    Volume& volume_;
    WorkerPool& pool_;
    std::atomic<bool> refusal_noted_{false};

    // The loop's thread.
    int poll_ = -1;
    void* mark_ = nullptr;
    std::weak_ptr<Session> borrowed_;  ///< whose data link's answers are received here
    std::shared_ptr<Session> batch_session_;
    std::optional<nbd::LinkBatch> batch_;
    Chain to_write_;   ///< sent to the peer, and to be written here
    Chain unflushed_;  ///< written here, and to be flushed

    /// One flush of the local disk for all who wait, as in SharedFlush, without a thread for each.
    Mutex flush_mutex_;
    Chain waiting_for_flush_ GUARDED_BY(flush_mutex_);
    bool flushing_ GUARDED_BY(flush_mutex_) = false;
};

}  // namespace mirror
