// SPDX-License-Identifier: BSD-3-Clause
// One replica that is not active here: its backing, its metadata, and the session in which an
// active elsewhere writes to it. mirrord owns it; its NBD connections call the exports made here.
//
// The session id is the fencing token (promise 6): begin_session() shuts the connections of older
// sessions and returns only when each has applied its last write and is gone, so that nothing left
// in a socket's buffer can land on newer data.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "core/base/checksum.hpp"
#include "core/base/clock.hpp"
#include "core/base/sync.hpp"
#include "core/lineage/handshake.hpp"
#include "core/meta/meta_file.hpp"
#include "core/nbd/export.hpp"
#include "core/standby/disk_activity.hpp"
#include "core/standby/write_behind.hpp"
#include "core/store/media_log.hpp"
#include "core/store/store.hpp"

namespace mirror {

class Replica {
  public:
    /// What an open session is at; for status.
    struct SessionView {
        SessionId id;
        std::string source;      ///< the active's node
        bool resyncing = false;  ///< begun with a resync that has not ended
        std::size_t connections = 0;
        SteadyTime last_request{};  ///< of any connection of the session; epoch: none yet
        /// Since when the disk has had a request that it did not answer yet; epoch: it has none.
        SteadyTime disk_busy_since{};
        /// What the resync could not bring, in the active's words; empty: it has not said so.
        std::string incomplete{};
    };

    /// Opens what was created before; `name` and `node` are checked against the metadata.
    [[nodiscard]] static Result<std::unique_ptr<Replica>> open(std::unique_ptr<Store> backing,
                                                               std::unique_ptr<MetaFile> meta,
                                                               const Clock& clock);
    ~Replica();  ///< ends the session as close() does
    Replica(const Replica&) = delete;
    Replica& operator=(const Replica&) = delete;

    /// Shuts every connection and waits until they are gone. Nothing is served afterwards.
    void close();

    [[nodiscard]] ReplicaSummary summary() const;
    [[nodiscard]] Superblock superblock() const { return meta_->superblock(); }
    /// To be looked at; who changes it does so through this class.
    [[nodiscard]] const MetaFile& metadata() const noexcept { return *meta_; }
    /// What mirrord does from time to time: metadata without space of their own may get it now.
    void tend_metadata() { meta_->reserve(); }
    /// Changes the superblock durably: for promotion, agreement, the verdict of a peer.
    [[nodiscard]] Result<void> update(const std::function<void(Superblock&)>& change);
    [[nodiscard]] std::optional<SessionView> session() const;

    // What the active asks for (docs/design.md, section 5).
    struct SessionStart {
        SessionId id;
        std::string source;  ///< the active's node
        bool resync = false;
        std::uint64_t step = 0;
    };
    [[nodiscard]] Result<void> begin_session(const SessionStart& start);
    [[nodiscard]] Result<void> session_synced(const SessionId& session, const Lineage& lineage,
                                              std::uint64_t step);
    /// Takes the step durably (core/lineage/steps.hpp).
    [[nodiscard]] Result<void> take_step(const SessionId& session, std::uint64_t step);
    /// All was sent but so many bytes, which the active can't read.
    [[nodiscard]] Result<void> session_incomplete(const SessionId& session,
                                                  std::uint64_t lacking_bytes,
                                                  const std::string& why);
    [[nodiscard]] Result<void> end_session(const SessionId& session, bool source_goes_on);
    /// `confirmed`: the active has written down that its own replica failed, so that this one alone
    /// may be promoted without asking.
    [[nodiscard]] Result<void> adopt_generation(const SessionId& session, const Lineage& lineage,
                                                bool confirmed);

    /// `suffix` is the export's name after "VOLUME": "@SESSION", "/digest@SESSION", "/changes",
    /// "/progress";
    /// with "/frames" before it, the framed form of that export (core/nbd/frame.hpp).
    [[nodiscard]] Result<std::unique_ptr<nbd::Export>> open_export(const std::string& suffix,
                                                                   std::function<void()> shutdown);

    /// Every region that this replica's maps name.
    [[nodiscard]] Result<Bitmap> regions_that_may_differ() const;
    /// For reading while no session writes to it.
    [[nodiscard]] Store& backing() const noexcept { return *backing_; }

    /// Called (from a connection's thread) when a write or flush on the backing failed.
    void on_disk_error(std::function<void(const Error&)> callback);
    /// Called (from a connection's thread) when a frame was refused: it was garbled on its way.
    void on_garbled(std::function<void(const Error&)> callback);
    [[nodiscard]] MediaLog::View media() const { return media_.view(); }

  private:
    friend class SessionMember;
    /// One connection of the session.
    struct Member {
        std::function<void()> shutdown;
        std::shared_ptr<DiskActivity::Lane> busy_since;
    };

    Replica(std::unique_ptr<Store> backing, std::unique_ptr<MetaFile> meta, const Clock& clock,
            std::uint64_t intent_bytes, std::uint64_t changed_bytes);

    [[nodiscard]] Result<std::unique_ptr<nbd::Export>> open_plain_export(
        const std::string& suffix, std::function<void()> shutdown);
    [[nodiscard]] Result<void> require_session(const SessionId& session) const REQUIRES(mutex_);
    /// The newest sign that the members' requests get on.
    [[nodiscard]] SteadyTime::rep members_progress() const REQUIRES(mutex_);
    /// Its active is gone, or has given it up.
    [[nodiscard]] bool has_lost_all_members() const REQUIRES(mutex_) {
        return has_had_members_ && members_.empty();
    }
    /// Back from a generation that the active was never told we had taken.
    void withdraw(const Lineage& taken, const Lineage& before);
    /// Shuts every connection and waits until they are gone; if `patience` is given, until their
    /// last requests have not got on for so long.
    [[nodiscard]] bool drain_members(MutexLock& lock,
                                     std::optional<std::chrono::milliseconds> patience = {})
        REQUIRES(mutex_);
    /// Until no other request changes the session; `busy` when that takes too long.
    [[nodiscard]] Result<void> wait_for_turn(MutexLock& lock) REQUIRES(mutex_);
    [[nodiscard]] Result<void> record_synced(const Lineage& lineage, std::uint64_t step);
    [[nodiscard]] Result<void> clear_maps();
    void report_disk_error(const Error& error);
    void report_garbled(const Error& error);
    void note_media(MediaOperation operation, ByteRange range, const Error& error);

    const std::unique_ptr<Store> backing_;
    const std::unique_ptr<MetaFile> meta_;
    const Clock& clock_;
    const std::shared_ptr<DiskActivity> activity_;
    WriteBehind write_behind_;
    MediaLog media_;

    mutable Mutex mutex_;
    bool closed_ GUARDED_BY(mutex_) = false;
    bool changing_session_ GUARDED_BY(mutex_) = false;
    std::optional<SessionView> session_ GUARDED_BY(mutex_);
    std::list<Member> members_ GUARDED_BY(mutex_);
    bool has_had_members_ GUARDED_BY(mutex_) = false;  ///< this session: none left, and it is over
    CondVar members_changed_;
    std::function<void(const Error&)> disk_error_ GUARDED_BY(mutex_);
    std::function<void(const Error&)> garbled_ GUARDED_BY(mutex_);
    /// What this replica's maps hold from when it was active: reported, cleared by session_synced.
    std::uint64_t intent_bytes_ GUARDED_BY(mutex_) = 0;
    std::uint64_t changed_bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace mirror
