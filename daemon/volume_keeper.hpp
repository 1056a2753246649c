// SPDX-License-Identifier: BSD-3-Clause
// One configured volume with a replica on this node: what is held of it (nothing, the replica, an
// engine), how it gets from one to another, and the thread that restarts a dead engine. The verbs
// (create.hpp, promote.hpp, …) are built from the steps here.
//
// Locking: mutex_ guards the fields and is never held across a wait for the network, a disk or a
// process; so no event is recorded under it, which is a write to STATE_DIR behind a file lock. What
// changes the role holds the one Operation of the volume meanwhile; the steps take it as an
// argument, as a proof. Whoever uses the replica holds a Lease, and closing the replica waits for
// all leases.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/fd.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"
#include "core/standby/replica.hpp"
#include "daemon/context.hpp"
#include "daemon/device/attacher.hpp"
#include "daemon/engine_client.hpp"
#include "daemon/engine_process.hpp"
#include "daemon/patient_open.hpp"
#include "daemon/peer_watch.hpp"
#include "daemon/pending_settings.hpp"
#include "daemon/settings_diff.hpp"
#include "daemon/status.hpp"
#include "daemon/volume_home.hpp"

namespace mirror::daemon {

class VolumeKeeper {
  public:
    /// All arguments outlive this.
    VolumeKeeper(const Context& context, VolumeHome home, PeerWatch& peers,
                 DeviceAttacher& devices);
    ~VolumeKeeper();  ///< stops
    VolumeKeeper(const VolumeKeeper&) = delete;
    VolumeKeeper& operator=(const VolumeKeeper&) = delete;

    /// Finds out what is there: opens the replica, or adopts the engine. Never fails: what does
    /// not work is the volume's state.
    /// Only where there is no thread for the supervisor, there is nothing at all.
    [[nodiscard]] Result<void> start();
    /// Closes the replica; an engine goes on. Idempotent.
    void stop();

    // What the verbs work with.
    [[nodiscard]] const Context& context() const noexcept { return context_; }
    /// As it is in use here; see daemon/volume_home.hpp.
    [[nodiscard]] const VolumeConfig& config() const noexcept { return lives().volume; }
    /// This node, with the directories of this volume.
    [[nodiscard]] const NodeConfig& home() const noexcept { return lives().node; }
    /// All of it. What is returned stays as it is; a reload puts another one in its place.
    [[nodiscard]] const VolumeHome& lives() const noexcept {
        return *home_.load(std::memory_order_acquire);
    }
    /// Whether the configuration has the volume.
    [[nodiscard]] bool is_configured() const noexcept { return lives().is_configured; }
    /// What both nodes' configurations must agree on; empty where the configuration lacks it.
    [[nodiscard]] Settings shared_settings() const;
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const std::string& node() const noexcept { return context_.node.name; }
    [[nodiscard]] std::string peer() const { return config().peer_of(node()); }
    [[nodiscard]] const std::string& backing_path() const;
    [[nodiscard]] std::string meta_file() const;
    [[nodiscard]] const EnginePaths& paths() const noexcept { return paths_; }
    [[nodiscard]] PeerWatch& peers() noexcept { return peers_; }
    [[nodiscard]] DeviceAttacher& devices() noexcept { return devices_; }
    [[nodiscard]] EngineClient& engine() noexcept { return client_; }
    /// The operation that replaces an engine, or starts one that died again.
    static constexpr const char* restart_name = "restart of the engine";

    void record(std::string id, Severity severity, std::string text, std::string cause = {},
                std::string remedy = {});

    /// The right to change the volume's role, for a scope.
    class Operation {
      public:
        explicit Operation(VolumeKeeper& keeper, bool is_borrowed = false)
            : keeper_(&keeper), is_borrowed_(is_borrowed) {}
        Operation(Operation&& other) noexcept
            : keeper_(std::exchange(other.keeper_, nullptr)), is_borrowed_(other.is_borrowed_) {}
        Operation& operator=(Operation&&) = delete;
        Operation(const Operation&) = delete;
        Operation& operator=(const Operation&) = delete;
        ~Operation();

      private:
        VolumeKeeper* keeper_;
        bool is_borrowed_;  ///< by the supervisor, from the one whose right it is
    };
    /// `busy`, with its name, while another one is in progress.
    [[nodiscard]] Result<Operation> begin(const std::string& what) EXCLUDES(mutex_);

    // For a reload, with the operation of all volumes that it changes; one thread at a time.
    /// Other settings of a volume that stays where it is: its backing and directories are the same.
    /// The end of the operation wakes the supervisor, which tells the engine.
    void take_home(const Operation& operation, VolumeHome home) EXCLUDES(mutex_);
    /// Not one that is in use. As stop(), and whoever still asks this keeper is told that another
    /// operation is in progress, for ever: another keeper takes its place, or none. Waits for the
    /// supervisor and for leases; those end with their sessions, which this ends.
    void retire(Operation operation) EXCLUDES(mutex_);

    /// While an operation waits for programs that use the volume themselves (hooks, umount), an
    /// engine that dies is started again all the same, or they would wait for ever. The end of the
    /// scope waits for a start in progress; the volume may be in another place then.
    class Supervision {
      public:
        Supervision(VolumeKeeper& keeper, const Operation& lender);
        ~Supervision();
        Supervision(const Supervision&) = delete;
        Supervision& operator=(const Supervision&) = delete;

      private:
        VolumeKeeper& keeper_;
    };

    /// The replica, held open for a scope.
    class Lease {
      public:
        Lease(VolumeKeeper& keeper, Replica& replica) : keeper_(&keeper), replica_(&replica) {}
        Lease(Lease&& other) noexcept
            : keeper_(std::exchange(other.keeper_, nullptr)), replica_(other.replica_) {}
        Lease& operator=(Lease&&) = delete;
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        ~Lease();
        [[nodiscard]] Replica* operator->() const noexcept { return replica_; }

      private:
        VolumeKeeper* keeper_;
        Replica* replica_;
    };
    /// An error that says why there is none: active here, not created, being changed, failed.
    [[nodiscard]] Result<Lease> replica() EXCLUDES(mutex_);
    /// As replica(), and tries again to open one that failed.
    [[nodiscard]] Result<Lease> replica_now() EXCLUDES(mutex_);

    [[nodiscard]] Place place() const EXCLUDES(mutex_);

    // Steps from place to place.
    /// Opens backing and metadata: standby; failed (with the reason in the status) otherwise.
    [[nodiscard]] Result<void> open_standby(
        const Operation& operation, std::chrono::seconds patience = std::chrono::seconds(10))
        EXCLUDES(mutex_);
    /// Tries again to open a replica that failed; nothing in any other place.
    [[nodiscard]] Result<void> reopen(const Operation& operation) EXCLUDES(mutex_);
    /// Shuts sessions, waits for leases, gives up the locks on the files: changing.
    void close_replica(const Operation& operation) EXCLUDES(mutex_);
    /// The replica must be closed, its superblock say active. Returns when the engine serves; on
    /// failure nothing of it is left running, and the place is as before.
    [[nodiscard]] Result<void> start_engine(const Operation& operation) EXCLUDES(mutex_);
    /// Kills what runs and removes its files: changing.
    [[nodiscard]] Result<void> end_engine(const Operation& operation,
                                          std::chrono::seconds patience = std::chrono::seconds(20))
        EXCLUDES(mutex_);
    /// A start that failed: the supervisor goes on trying.
    void leave_start_to_supervisor(const Operation& operation, const Error& error) EXCLUDES(mutex_);
    /// The engine was killed and does not end, since a disk holds it: changing.
    void abandon_engine(const Operation& operation, const std::string& why) EXCLUDES(mutex_);
    [[nodiscard]] bool engine_is_running() const EXCLUDES(mutex_);
    /// Makes the files of a running engine again that are gone from RUN_DIR. Any thread, again and
    /// again.
    void look_after_files() EXCLUDES(mutex_);
    /// It was active when mirrord ended, and its engine is gone: it is standby until the peer says
    /// that it did not take over meanwhile, and goes on by itself then.
    [[nodiscard]] bool waits_for_peer() const EXCLUDES(mutex_);
    /// For a replica that was active: the marker goes, the superblock says standby.
    [[nodiscard]] Result<void> settle_as_standby(const Operation& operation) EXCLUDES(mutex_);
    [[nodiscard]] Result<void> write_marker();
    void remove_marker() noexcept;

    /// This replica's summary: from the engine while active.
    [[nodiscard]] Result<ReplicaSummary> summary() EXCLUDES(mutex_);
    [[nodiscard]] VolumeFacts facts() EXCLUDES(mutex_);
    /// `engine_age`: how old what the engine said may be.
    [[nodiscard]] VolumeFacts facts(PeerView peer_view,
                                    std::chrono::milliseconds engine_age = EngineClient::memory)
        EXCLUDES(mutex_);
    /// The state word and since when.
    [[nodiscard]] std::pair<StateWord, WallTime> state(const VolumeFacts& facts) EXCLUDES(mutex_);
    [[nodiscard]] Json status() EXCLUDES(mutex_);
    /// Where the volume works with other settings than the configuration has, with the step that is
    /// left; empty: nowhere.
    [[nodiscard]] std::string settings_words() EXCLUDES(mutex_);
    /// The entry of `peer-status`; null when the volume has no usable replica here.
    /// `is_now`: somebody waits for it; else it is one of the looks that the peer takes all the
    /// time, and what the engine said a moment ago will do.
    [[nodiscard]] Json peer_status(bool is_now) EXCLUDES(mutex_);
    /// From the peer watch's thread, every second or so.
    void on_peer(const PeerView& view, PeerWatch::Change change) EXCLUDES(mutex_);
    /// From a watch's thread, every few seconds.
    void tend_metadata() EXCLUDES(mutex_);
    /// The kernel gave up a connection of the volume's device. Does not block.
    void on_link_dead();

  private:
    void move_to(VolumeHome home);
    void end_operation() noexcept EXCLUDES(mutex_);
    [[nodiscard]] Result<Operation> begin_restart() EXCLUDES(mutex_);
    void end_restart() noexcept EXCLUDES(mutex_);
    void return_lease() noexcept EXCLUDES(mutex_);
    [[nodiscard]] Failure why_no_replica() const REQUIRES(mutex_);
    /// A replica that can't be opened, and for which of its files.
    struct Unusable {
        Error error;
        std::string fault;
    };
    using Loaded = tl::expected<std::unique_ptr<Replica>, Unusable>;
    [[nodiscard]] Loaded load_replica(std::chrono::seconds patience);
    void note_damage(const MetaFile& meta) EXCLUDES(mutex_);
    void take_engine(const Operation& operation, std::shared_ptr<EngineProcess> engine)
        EXCLUDES(mutex_);
    void restore_files(const Operation& operation) EXCLUDES(mutex_);
    void record_lost_files(pid_t engine, const std::vector<std::string>& left,
                           const Result<void>& marked);
    [[nodiscard]] Error foreign_metadata(const Superblock& block) const;
    [[nodiscard]] std::string advice_for_open(const Error& error) const;
    void note_disk_error(Replica& replica, const Error& error);
    void note_garbled(const Error& error);
    [[nodiscard]] Result<void> wait_ready(EngineProcess& engine);
    void find_place(const Operation& operation);
    void leave_to_supervisor();
    [[nodiscard]] Result<void> wait_for_peer(const Operation& operation);
    void learn_from_peer(const PeerVolume& peer);

    // volume_engine.cpp
    void supervise();
    void wake() noexcept;
    /// How long the supervisor may sleep when nothing wakes it; it acts on a dead engine.
    [[nodiscard]] std::chrono::milliseconds tick() EXCLUDES(mutex_);
    [[nodiscard]] bool may_act() const REQUIRES(mutex_);
    [[nodiscard]] bool lacks_engine() const EXCLUDES(mutex_);
    [[nodiscard]] bool is_served() const EXCLUDES(mutex_);
    /// How it ended, for an event, which is written without the mutex.
    [[nodiscard]] std::string note_engine_death() REQUIRES(mutex_);
    void restart_engine(const Operation& operation) EXCLUDES(mutex_);
    void engine_start_failed(const Error& error) EXCLUDES(mutex_);
    [[nodiscard]] bool mirrord_was_away() const EXCLUDES(mutex_);

    // volume_settings.cpp
    /// mirrord's settings to an engine that may have others. How long until it is tried again;
    /// nothing when that is done.
    [[nodiscard]] std::optional<std::chrono::milliseconds> tell_settings() EXCLUDES(mutex_);
    void note_settings_taken(const Json& answer);
    /// An event where something is left to do, once.
    void note_pending(const std::vector<PendingSetting>& pending) EXCLUDES(mutex_);
    /// Both nodes have the same settings, and a session that began with others goes on.
    void renew_session(const VolumeFacts& seen, const PeerView& view);
    [[nodiscard]] std::vector<PendingSetting> pending(const VolumeFacts& seen) const;
    [[nodiscard]] std::string settings_words(const VolumeFacts& seen) const;
    /// False of an engine of an earlier version, and of one that does not answer.
    [[nodiscard]] static bool says_its_settings(const VolumeFacts& seen);
    [[nodiscard]] Json warnings(const VolumeFacts& seen, const Json& metadata) const;

    // volume_device.cpp
    void find_device() EXCLUDES(mutex_);
    void note_device_without_engine();
    /// When the device needs something next; does what is due.
    [[nodiscard]] std::optional<std::chrono::milliseconds> look_after_device();
    /// This node is no longer the active one: what uses the device gets errors instead of waiting.
    void drop_device(const std::string& why);

    // volume_resume.cpp
    /// How long until the peer is to be asked again; nothing while there is nobody to ask.
    [[nodiscard]] std::optional<std::chrono::milliseconds> resume_due() EXCLUDES(mutex_);
    void resume(const Operation& operation) EXCLUDES(mutex_);
    [[nodiscard]] Result<std::optional<std::string>> ask_whether_replaced() EXCLUDES(mutex_);
    [[nodiscard]] Result<void> take_role_again();
    void stay_standby(const Operation& operation, const std::string& reason) EXCLUDES(mutex_);
    void note_waiting(const std::string& cause) EXCLUDES(mutex_);

    const Context& context_;
    const std::string name_;
    /// The last one is in force, and none is given back before: any thread may be reading it.
    std::vector<std::unique_ptr<const VolumeHome>> homes_;  ///< the reload's
    std::atomic<const VolumeHome*> home_{nullptr};
    PeerWatch& peers_;
    DeviceAttacher& devices_;
    const EnginePaths paths_;
    EngineClient client_;
    PatientOpener opener_;

    mutable Mutex mutex_;
    CondVar changed_;  ///< leases_ went down, a borrowed operation ended
    Place place_ GUARDED_BY(mutex_) = Place::changing;
    std::string failure_ GUARDED_BY(mutex_);
    /// What to do about it, and never more than is known: written with every failure_.
    std::string advice_ GUARDED_BY(mutex_);
    /// Files of the running engine that are gone, and could not be made again.
    std::vector<std::string> files_left_ GUARDED_BY(mutex_);
    std::string fault_ GUARDED_BY(mutex_);  ///< with Place::failed: "backing" or "metadata"
    std::uint64_t damage_noted_ GUARDED_BY(mutex_) = 0;  ///< sectors of the metadata
    std::string disk_error_ GUARDED_BY(mutex_);          ///< the last that was reported
    std::string operation_ GUARDED_BY(mutex_);
    bool is_lent_ GUARDED_BY(mutex_) = false;  ///< the operation, to the supervisor
    bool is_borrowed_ GUARDED_BY(mutex_) = false;
    std::unique_ptr<Replica> replica_ GUARDED_BY(mutex_);
    std::size_t leases_ GUARDED_BY(mutex_) = 0;
    std::shared_ptr<EngineProcess> engine_ GUARDED_BY(mutex_);
    std::optional<ReplicaSummary> last_summary_ GUARDED_BY(mutex_);
    bool settings_told_ GUARDED_BY(mutex_) = false;  ///< to the engine that runs
    std::uint64_t settings_version_ GUARDED_BY(mutex_) = 0;
    SteadyTime tell_due_ GUARDED_BY(mutex_){};
    std::string pending_noted_ GUARDED_BY(mutex_);
    std::string word_ GUARDED_BY(mutex_);
    WallTime word_since_ GUARDED_BY(mutex_){};

    // The supervisor's.
    Thread supervisor_;
    Fd wake_;  ///< eventfd
    bool stopping_ GUARDED_BY(mutex_) = false;
    bool restarts_soon_ GUARDED_BY(mutex_) = false;  ///< a death that is mended in a moment
    bool death_noted_ GUARDED_BY(mutex_) = false;
    /// Since mirrord started; before that nobody here knows how long none did.
    bool engine_has_run_ GUARDED_BY(mutex_) = false;
    bool waits_for_peer_ GUARDED_BY(mutex_) = false;
    bool waiting_noted_ GUARDED_BY(mutex_) = false;
    SteadyTime engine_started_ GUARDED_BY(mutex_){};
    SteadyTime restart_due_ GUARDED_BY(mutex_){};
    std::chrono::milliseconds backoff_ GUARDED_BY(mutex_){0};

    /// Last, since its end needs all others.
    std::optional<Operation> retired_;
};

}  // namespace mirror::daemon
