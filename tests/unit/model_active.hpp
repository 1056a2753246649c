// SPDX-License-Identifier: BSD-3-Clause
// The active side in the model test: the real Membership, Differences and MetaFile, driven in the
// order of Volume, Peer and Resync, but with every write cut into its steps, so that anything may
// happen between two of them. The peer is a Replica in the same process, behind a wire that may
// fail before or after any message. One thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/engine/membership.hpp"
#include "core/engine/step_keeper.hpp"
#include "model_node.hpp"
#include "model_truth.hpp"

namespace mirror::test {

/// The active's end of a session without sockets.
class ModelSession final : public Session {
  public:
    using Synced = std::function<Result<void>(const Lineage&, std::uint64_t step)>;
    using Step = std::function<Result<void>(std::uint64_t step)>;
    ModelSession(std::string peer, const SessionId& id, bool resync, Synced synced, Step step)
        : Session({.node = std::move(peer), .address = {}}, nullptr, "r0", id, resync),
          synced_(std::move(synced)),
          step_(std::move(step)) {}

    void lose(const std::string&) override { mark_lost(); }
    [[nodiscard]] Result<void> tell_synced(const Lineage& lineage, std::uint64_t step) override {
        return synced_(lineage, step);
    }
    [[nodiscard]] Result<void> tell_step(std::uint64_t step, bool) override { return step_(step); }
    [[nodiscard]] Result<void> tell_generation(const Lineage&, bool) override {
        return fail(ErrorKind::internal, "no disk fails in the model");
    }

  private:
    Synced synced_;
    Step step_;
};

class ModelActive {
  public:
    struct Parts {
        ModelNode& self;
        ModelNode& peer;
        ModelWire& wire;
        ModelTruth& truth;
        ModelRandom& random;
        const Clock& clock;
        EventLog& events;
        Version& newest;
        std::size_t& sessions;
        std::size_t& steps_raised;  ///< on both, and an acknowledgement could follow
        /// Anything may happen here that does not end this object.
        std::function<void()> interlude;
    };

    /// Fails only when the machine dies meanwhile.
    [[nodiscard]] static Result<std::unique_ptr<ModelActive>> start(const Parts& parts);

    void start_write();
    /// One step of one write or of one region's resync.
    void advance();
    void flush();
    void checkpoint();
    /// Connects and shakes hands, if there is no session.
    void attempt();
    /// Begins the resync of one more region, or concludes.
    void bring_up_to_date();
    void compare_everything();
    /// The link's deadline has passed, or it was shut.
    void notice_loss();
    /// A demote's durable half.
    [[nodiscard]] Result<void> quiesce();
    void disconnect();

    [[nodiscard]] ReplicaSummary summary() const;
    [[nodiscard]] bool idle() const noexcept { return works_.empty(); }
    [[nodiscard]] bool in_sync() const;
    /// disconnect() was asked for.
    [[nodiscard]] bool paused() const { return meta_->superblock().paused; }
    [[nodiscard]] bool has_session() const noexcept { return session_ != nullptr; }
    /// What must hold between any two moves.
    void check() const;
    /// Why the last attempt got no session.
    [[nodiscard]] Action last_action() const noexcept { return last_action_; }

  private:
    /// A write, or the resync of a region, under its range lock.
    struct Work {
        bool resync = false;
        std::size_t first = 0;
        std::size_t count = 0;
        std::array<Version, units_per_region> versions{};
        std::array<bool, units_per_region> sends{};
        ByteRange range{};
        std::shared_ptr<Session> session{};
        std::unique_ptr<IntentMap::Entered> entered{};
        bool local_done = false;
        bool applied = false;   ///< by the peer
        bool answered = false;  ///< and its answer came
        bool peer_failed = false;
        unsigned peer_power_losses = 0;  ///< when it was applied
    };

    ModelActive(const Parts& parts, std::unique_ptr<MetaFile> meta,
                std::unique_ptr<Differences> differences);

    [[nodiscard]] Result<void> call(const std::function<Result<void>()>& there);
    [[nodiscard]] bool door_is_open(const Session& session) const;
    [[nodiscard]] bool overlaps_work(std::size_t first, std::size_t count) const;
    [[nodiscard]] Result<Decision> shake_hands();
    [[nodiscard]] Result<void> record_session();
    [[nodiscard]] Result<Bitmap> read_changes();
    [[nodiscard]] Result<void> begin_session(bool resync);
    void resync_region(std::uint64_t region);
    void apply_at_peer(Work& work);
    void step_of(std::size_t index);
    void finish(Work& work);
    void finish_resync(Work& work);
    void finish_everything();
    [[nodiscard]] Result<void> settle();
    [[nodiscard]] Result<void> settle_step(IntentMap::Clear what);
    [[nodiscard]] Result<void> leave_quiet();
    void note_step(bool due);
    void end_session(bool goes_on);
    void check_equal(const char* when) const;

    Parts parts_;
    std::unique_ptr<MetaFile> meta_;
    std::unique_ptr<Differences> differences_;
    unsigned checkpoints_ = 0;
    Membership membership_;
    std::shared_ptr<ModelSession> session_;
    SessionId begun_{};  ///< the newest that was asked for
    std::uint64_t begun_step_ = 0;
    std::uint64_t their_step_ = 0;
    StepKeeper steps_;
    std::vector<Work> works_;
    bool writes_wait_ = false;  ///< for a range lock, or for the intents that are being written
    Action last_action_ = Action::nobody_active;
};

}  // namespace mirror::test
