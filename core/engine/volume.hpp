// SPDX-License-Identifier: BSD-3-Clause
// The engine: one volume on its active node. The plugin calls read, write, zero, trim, flush and
// extents from many threads, and handle() for requests of mirrord; the rest is inside.
//
// A write takes the range lock, then its intent, then learns who takes part, then goes to the peer
// and to the local disk at the same time (docs/design.md, section 6). The order of the first three
// matters: a write must have its intent before it chooses a session, so that whatever
// ends the session finds it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/gate.hpp"
#include "core/base/shared_flush.hpp"
#include "core/base/start_thread.hpp"
#include "core/control/mailbox.hpp"
#include "core/engine/change.hpp"
#include "core/engine/client_count.hpp"
#include "core/engine/peer.hpp"
#include "core/engine/verify.hpp"
#include "core/store/media_log.hpp"
#include "core/store/timed_store.hpp"

namespace mirror {

class Volume {
  public:
    struct Options {
        std::string config_path;
        std::string node;
        std::string volume;
    };

    /// Opens backing and metadata and checks that mirrord has promoted this replica. Starts no
    /// thread: nbdkit forks between this and start().
    [[nodiscard]] static Result<std::unique_ptr<Volume>> open(const Options& options);
    /// For tests: parts made elsewhere.
    Volume(Config config, const std::string& node, const std::string& volume,
           std::unique_ptr<Store> store, std::unique_ptr<MetaFile> meta,
           std::unique_ptr<Differences> differences, const Clock& clock,
           std::shared_ptr<DiskPatience> patience = {});
    ~Volume();
    Volume(const Volume&) = delete;
    Volume& operator=(const Volume&) = delete;

    /// Records that this replica is in use, and starts the threads.
    [[nodiscard]] Result<void> start();

    [[nodiscard]] const std::string& name() const noexcept { return settings_.name; }
    [[nodiscard]] const std::string& io_group() const noexcept { return settings_.io_group; }
    /// Where mirrord has clients connect, and where the express door is.
    [[nodiscard]] std::string socket() const { return node().volume_socket(settings_.name); }
    [[nodiscard]] std::string express_socket() const {
        return node().express_socket(settings_.name);
    }
    /// Where it makes and writes files by name when it serves: all others are open by then.
    [[nodiscard]] std::array<std::string, 2> written_folders() const {
        return {node().state_dir, node().run_dir};
    }
    [[nodiscard]] std::uint64_t size() const noexcept { return store_->size(); }

    // Requests of clients. Ranges lie within size(). Any length: long ones are cut into pieces.
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset);
    [[nodiscard]] Result<void> write(std::span<const std::byte> from, std::uint64_t offset,
                                     Durability durability);
    /// Trim is zeroing with Space::may_free, so that replicas read alike.
    [[nodiscard]] Result<void> zero(ByteRange range, Space space, Durability durability);
    [[nodiscard]] Result<void> flush();
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range);

    /// What the housekeeper does from time to time: everything durable on all who take part, then
    /// the maps; intents that stand for nothing are cleared.
    [[nodiscard]] Result<void> checkpoint(IntentMap::Clear what = IntentMap::Clear::all) {
        return peer_.checkpoint(what);
    }

    /// The end of a role: what waits for the peer fails, as does everything from now on.
    void refuse_requests();

    /// Requests of docs/design.md, section 7.3.
    [[nodiscard]] Result<control::Json> handle(const control::Json& request);

    /// A client of the volume came or went; counted for status and quiesce.
    void client_opened() noexcept { clients_.opened(); }
    void client_closed() noexcept { clients_.closed(); }

  private:
    [[nodiscard]] const NodeConfig& node() const { return config_.nodes.at(node_); }

    /// The submitting form of the requests above; made of the same steps.
    friend class VolumeRequests;

    [[nodiscard]] Result<void> read_inside(std::span<std::byte> into, std::uint64_t offset);
    [[nodiscard]] Result<void> apply(const Change& change);
    [[nodiscard]] Result<void> apply_locally(const Change& change);
    [[nodiscard]] Result<void> apply_on_both(const Change& change,
                                             const Membership::Parties& parties,
                                             Result<void>& local);
    /// Both sides have answered: what must be so before the application gets its answer. May wait
    /// for long, and lets go of the range before it does.
    [[nodiscard]] Result<void> settle(const Change& change, Underway& underway, Result<void> local,
                                      const Result<void>& peer);
    [[nodiscard]] Result<void> flush_parties();
    [[nodiscard]] Result<void> settle_flush(const Membership::Parties& parties, Result<void> local,
                                            const Result<void>& peer);
    [[nodiscard]] Failure no_longer_active() const;
    void record_failure_soon();
    /// The intent of a write, or nothing once the local replica is left out. Metadata that can't be
    /// written leave it out; fails when the peer can't go on alone.
    [[nodiscard]] Result<std::optional<IntentMap::Entered>> enter(ByteRange range);
    /// The local disk failed: success when the replica was left out, since the peer has it all.
    [[nodiscard]] Result<void> left_out_after(const Membership::Parties& parties,
                                              const Result<void>& peer, const Error& error,
                                              MediaOperation operation, ByteRange range);
    static void send(nbd::Link& link, const Change& change, nbd::Link::Completion done);
    [[nodiscard]] Result<void> read_from_peer(std::span<std::byte> into, std::uint64_t offset,
                                              const Error& local_error);
    void repair(std::span<const std::byte> good, std::uint64_t offset, const Error& unread);
    /// Counts an error of the local disk; an event too, unless there was one a moment ago.
    void note_media(MediaOperation operation, ByteRange range, MediaAction action,
                    const Error& cause);
    /// `differing-regions` and `block-digests`: what this replica holds, unless it is left out.
    [[nodiscard]] Result<control::Json> compare(const control::Json& request);
    [[nodiscard]] std::string why() const;

    [[nodiscard]] control::Json status() const;
    [[nodiscard]] Result<control::Json> quiesce(bool disconnect_clients);

    // volume_settings.cpp
    /// What mirrord has in force now: takes what can be taken while the volume is served.
    [[nodiscard]] Result<control::Json> take_settings(const control::Json& request)
        EXCLUDES(settings_mutex_);
    void give_to_parts(const Config& after, const Config& wanted,
                       const std::map<std::string, std::pair<std::string, std::string>>& changed);
    /// What this engine works with, by name.
    [[nodiscard]] control::Json settings_view() const EXCLUDES(settings_mutex_);

    // volume_hold.cpp
    [[nodiscard]] Result<control::Json> hold(const control::Json& request);
    [[nodiscard]] Result<void> settle_for_replacement(SteadyTime until);
    void let_go() EXCLUDES(house_mutex_);
    /// A hold that nobody came back for. From the housekeeper.
    void end_old_hold() EXCLUDES(house_mutex_);
    /// Nothing that the housekeeper, who asks, would do now or soon but for a hold.
    [[nodiscard]] bool is_quiet() const;
    void wake_housekeeper() EXCLUDES(house_mutex_);

    void report_damage();
    void keep_house();
    void keep_records();

    const Config config_;  ///< as it was started with
    const VolumeConfig& settings_;
    const std::string node_;
    const Clock& clock_;
    EventLog events_;
    const std::unique_ptr<Store> store_;
    const std::unique_ptr<MetaFile> meta_;
    const std::unique_ptr<Differences> differences_;
    RangeLock ranges_;
    SharedFlush flushes_;
    Membership membership_;
    Peer peer_;
    Gate gate_;
    Verify verify_;
    ClientCount clients_;
    std::atomic<std::uint64_t> quick_requests_{0};  ///< of the express door: nothing was waited for
    std::atomic<std::uint64_t> pooled_requests_{0};  ///< of the express door: a thread had to wait
    MediaLog media_;
    std::uint64_t recorded_errors_;                 ///< the housekeeper's
    const std::shared_ptr<DiskPatience> patience_;  ///< null: the disk is waited for without end

    mutable Mutex settings_mutex_;
    Config taken_ GUARDED_BY(settings_mutex_);  ///< config_ with what was taken since

    Mutex house_mutex_;
    CondVar house_wake_;
    bool house_closed_ GUARDED_BY(house_mutex_) = false;
    bool house_hurry_ GUARDED_BY(house_mutex_) = false;  ///< woken: it does not sleep for long
    /// When requests that are held back go on by themselves.
    std::optional<SteadyTime> held_until_ GUARDED_BY(house_mutex_);
    Thread housekeeper_;
    Thread recorder_;  ///< of the local replica's failure; set once, by whoever left it out
};

}  // namespace mirror
