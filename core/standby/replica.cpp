// SPDX-License-Identifier: BSD-3-Clause
#include "core/standby/replica.hpp"

#include <algorithm>
#include <utility>

#include "core/base/log.hpp"
#include "core/meta/backing_record.hpp"
#include "core/meta/transitions.hpp"
#include "core/nbd/framed_export.hpp"
#include "core/standby/session_member.hpp"

namespace mirror {
namespace {

struct Maps {
    Bitmap regions;  ///< intent and suspect
    Bitmap changed;
};

Result<Maps> read_maps(MetaFile& meta) {
    auto intent = meta.read_map(MapKind::intent);
    auto suspect = meta.read_map(MapKind::suspect);
    auto changed = meta.read_map(MapKind::changed);
    for (const auto* map : {&intent, &suspect, &changed}) {
        if (!map->has_value()) {
            return Failure(map->error());
        }
    }
    intent->merge(*suspect);
    return Maps{std::move(*intent), std::move(*changed)};
}

/// The longest that a request waits for writes of older connections that do not get on. A disk that
/// hangs must not gather waiting requests, and the peer gives up on one after ten seconds.
constexpr std::chrono::milliseconds drain_patience{5000};

/// How often it is looked whether they get on.
constexpr std::chrono::milliseconds look_period{250};

Failure disk_is_busy() {
    return Failure(Error{
        ErrorKind::busy,
        fmt::format("its disk has not completed requests of an earlier session for more than {}",
                    format_duration(drain_patience)),
        "check the disk there: it hangs"});
}

Failure session_has_ended() {
    return fail(ErrorKind::unreachable, "all connections of the session have ended");
}

Failure was_promoted() {
    return fail(ErrorKind::refused, "this replica has been promoted in the meantime");
}

/// Marks a session change in progress for a scope, and wakes the next one at its end.
class ChangingSession {
  public:
    ChangingSession(bool& flag, CondVar& changed) : flag_(flag), changed_(changed) { flag_ = true; }
    ChangingSession(const ChangingSession&) = delete;
    ChangingSession& operator=(const ChangingSession&) = delete;
    ~ChangingSession() {
        flag_ = false;
        changed_.notify_all();
    }

  private:
    bool& flag_;
    CondVar& changed_;
};

}  // namespace

Result<std::unique_ptr<Replica>> Replica::open(std::unique_ptr<Store> backing,
                                               std::unique_ptr<MetaFile> meta, const Clock& clock) {
    const Superblock block = meta->superblock();
    if (backing->size() != block.size) {
        return fail(ErrorKind::invalid, "volume {}: the backing has {}, the metadata says {}",
                    block.volume_name, format_size(backing->size()), format_size(block.size));
    }
    auto maps = read_maps(*meta);
    if (!maps) {
        return Failure(maps.error());
    }
    return std::unique_ptr<Replica>(new Replica(std::move(backing), std::move(meta), clock,
                                                maps->regions.count() * region_size,
                                                maps->changed.count() * block_size));
}

Replica::Replica(std::unique_ptr<Store> backing, std::unique_ptr<MetaFile> meta, const Clock& clock,
                 std::uint64_t intent_bytes, std::uint64_t changed_bytes)
    : backing_(std::move(backing)),
      meta_(std::move(meta)),
      clock_(clock),
      activity_(std::make_shared<DiskActivity>(clock)),
      write_behind_(*backing_, *activity_),
      media_(clock, meta_->superblock().media_errors),
      intent_bytes_(intent_bytes),
      changed_bytes_(changed_bytes) {}

Replica::~Replica() {
    close();
}

void Replica::close() {
    {
        MutexLock lock(mutex_);
        if (closed_) {
            return;
        }
        closed_ = true;
        session_.reset();
        (void)drain_members(lock);
    }
    // Nobody writes any more. What can't be made durable or written down is not known to be as it
    // was left; the next opening believes it by its identity alone.
    const auto sealed = backing_->seal();
    if (sealed && *sealed != meta_->superblock().backing_mark) {
        (void)meta_->update([&](Superblock& block) { close_backing(block, *sealed); });
    }
}

ReplicaSummary Replica::summary() const {
    MutexLock lock(mutex_);
    return summarize(meta_->superblock(), intent_bytes_, changed_bytes_);
}

Result<void> Replica::update(const std::function<void(Superblock&)>& change) {
    return meta_->update(change);
}

std::optional<Replica::SessionView> Replica::session() const {
    MutexLock lock(mutex_);
    if (!session_) {
        return std::nullopt;
    }
    SessionView view = *session_;
    view.connections = members_.size();
    view.last_request = activity_->last_request();
    for (const Member& member : members_) {
        const SteadyTime since(SteadyTime::duration(member.busy_since->load()));
        if (since != SteadyTime{} &&
            (view.disk_busy_since == SteadyTime{} || since < view.disk_busy_since)) {
            view.disk_busy_since = since;
        }
    }
    return view;
}

Result<void> Replica::begin_session(const SessionStart& start) {
    MutexLock lock(mutex_);
    if (auto turn = wait_for_turn(lock); !turn) {
        return turn;
    }
    if (closed_) {
        return fail(ErrorKind::refused, "the replica is being closed");
    }
    const ChangingSession changing(changing_session_, members_changed_);
    const AtTheDisk working(activity_->control(), activity_->now());
    session_.reset();
    activity_->forget_lanes();
    if (!drain_members(lock, drain_patience)) {
        return disk_is_busy();
    }
    lock.unlock();
    // Fails for good after a flush that failed: then this opening's content can't be believed.
    auto recorded = write_behind_.flush();
    if (!recorded) {
        note_media(MediaOperation::flush, {}, recorded.error());
        lock.lock();
        return Failure(Error{ErrorKind::refused,
                             fmt::format("its disk failed: {}", recorded.error().message),
                             "repair the disk there, then there mirrorctl create --replace"});
    }
    bool is_active = false;  // promoted, while the disk was waited for
    recorded = meta_->update([&](Superblock& block) {
        is_active = block.role == Role::active;
        if (is_active) {
            return;
        }
        join_session(block, start.id, start.step);
        open_backing(block);
        block.role = Role::standby;
        block.last_active = false;  // the source of the session has it
        block.lacking_bytes = 0;
        if (start.resync) {
            block.state = ReplicaState::inconsistent;
        }
    });
    lock.lock();
    if (!recorded) {
        return recorded;
    }
    if (is_active) {
        return fail(ErrorKind::refused, "this node is active itself");
    }
    if (closed_) {
        return fail(ErrorKind::refused, "the replica is being closed");
    }
    activity_->note_request();
    session_ = SessionView{start.id, start.source, start.resync};
    has_had_members_ = false;
    return {};
}

Result<void> Replica::session_synced(const SessionId& session, const Lineage& lineage,
                                     std::uint64_t step) {
    MutexLock lock(mutex_);
    if (auto turn = wait_for_turn(lock); !turn) {
        return turn;
    }
    if (auto current = require_session(session); !current) {
        return current;
    }
    // A newer session must not begin in between, or this one would declare it up to date. What may
    // happen is a promotion here, and close(): the first is looked for when it is recorded, after
    // the second there is no session to note it in.
    const ChangingSession changing(changing_session_, members_changed_);
    const AtTheDisk working(activity_->control(), activity_->now());
    lock.unlock();
    auto recorded = record_synced(lineage, step);
    lock.lock();
    if (!recorded) {
        return recorded;
    }
    intent_bytes_ = 0;
    changed_bytes_ = 0;
    if (session_) {
        session_->resyncing = false;
        session_->incomplete.clear();
    }
    return {};
}

Result<void> Replica::session_incomplete(const SessionId& session, std::uint64_t lacking_bytes,
                                         const std::string& why) {
    MutexLock lock(mutex_);
    if (auto turn = wait_for_turn(lock); !turn) {
        return turn;
    }
    if (auto current = require_session(session); !current) {
        return current;
    }
    const ChangingSession changing(changing_session_, members_changed_);
    lock.unlock();
    auto recorded = meta_->update([&](Superblock& block) {
        block.lacking_bytes = block.state == ReplicaState::inconsistent ? lacking_bytes : 0;
    });
    lock.lock();
    if (recorded && session_) {
        session_->incomplete = why;
    }
    return recorded;
}

Result<void> Replica::take_step(const SessionId& session, std::uint64_t step) {
    {
        MutexLock lock(mutex_);
        if (auto current = require_session(session); !current) {
            return current;
        }
    }
    // Not in turn: a write waits for this, and must not wait for a flush before the session gets in
    // sync. Another session may have begun meanwhile.
    bool current = false;
    auto recorded = meta_->update([&](Superblock& block) {
        current = block.session == session;
        if (current) {
            mirror::take_step(block, step);
        }
    });
    if (recorded && !current) {
        return fail(ErrorKind::refused, "session {} has ended", short_form(session));
    }
    return recorded;
}

Result<void> Replica::record_synced(const Lineage& lineage, std::uint64_t step) {
    if (auto flushed = write_behind_.flush(); !flushed) {
        note_media(MediaOperation::flush, {}, flushed.error());
        report_disk_error(flushed.error());
        return flushed;
    }
    const WallTime now = clock_.wall_now();
    bool promoted = false;
    auto recorded = meta_->update([&](Superblock& block) {
        // While the disk took its time: this replica has a history of its own then.
        promoted = block.role != Role::standby;
        if (promoted) {
            return;
        }
        block.lineage = lineage;
        get_in_sync(block, step);
        block.state = ReplicaState::up_to_date;
        block.unclean = false;
        block.solo = false;
        block.yields_to = {};
        block.lacking_bytes = 0;
        // A wish of the time when this node was active; who is active now decides who takes part.
        block.paused = false;
        block.break_at = {};
        block.synced_at = now;
        block.last_update = now;
    });
    if (recorded && promoted) {
        return was_promoted();
    }
    // The superblock first: if we stop in between, maps that name too much cost a comparison only.
    return recorded ? clear_maps() : recorded;
}

Result<void> Replica::end_session(const SessionId& session, bool source_goes_on) {
    MutexLock lock(mutex_);
    if (auto turn = wait_for_turn(lock); !turn) {
        return turn;
    }
    if (auto current = require_session(session); !current) {
        return current;
    }
    const ChangingSession changing(changing_session_, members_changed_);
    const AtTheDisk working(activity_->control(), activity_->now());
    session_.reset();
    if (!drain_members(lock, drain_patience)) {
        return disk_is_busy();
    }
    lock.unlock();
    const WallTime now = clock_.wall_now();
    auto flushed = write_behind_.flush();
    auto recorded = meta_->update([&](Superblock& block) {
        if (source_goes_on) {
            block.break_at = now;
            if (block.state == ReplicaState::up_to_date) {
                block.state = ReplicaState::stale;
            }
        }
    });
    lock.lock();
    return flushed ? recorded : flushed;
}

Result<void> Replica::adopt_generation(const SessionId& session, const Lineage& lineage,
                                       bool confirmed) {
    MutexLock lock(mutex_);
    if (auto turn = wait_for_turn(lock); !turn) {
        return turn;
    }
    if (auto current = require_session(session); !current) {
        return current;
    }
    if (!confirmed && has_lost_all_members()) {
        return session_has_ended();
    }
    const Lineage before = meta_->superblock().lineage;
    if (!lineage.contains(before.current())) {
        return fail(ErrorKind::protocol, "the new generation does not descend from ours");
    }
    // No other session begins meanwhile; a promotion here may, and is looked for below.
    const ChangingSession changing(changing_session_, members_changed_);
    lock.unlock();
    // The active's own disk failed: this replica alone has everything from here on.
    const bool alone = confirmed && !lineage.empty() &&
                       lineage.entries().front().reason == GenerationReason::local_disk_failed;
    bool promoted = false;
    auto recorded = meta_->update([&](Superblock& block) {
        promoted = block.role != Role::standby;
        if (!promoted) {
            block.lineage = lineage;
            block.last_active = block.last_active || alone;
        }
    });
    lock.lock();
    if (recorded && !promoted && !confirmed && has_lost_all_members()) {
        // The disk took its time. Nobody was told that it was taken, so nobody acts on it; an
        // active that comes back may have gone on without it, and the histories would part for
        // nothing.
        lock.unlock();
        withdraw(lineage, before);
        lock.lock();
        return session_has_ended();
    }
    return recorded && promoted ? Result<void>(was_promoted()) : recorded;
}

/// Where it can't be written down, or the power fails first, it stays: then the active finds that
/// it is behind.
void Replica::withdraw(const Lineage& taken, const Lineage& before) {
    auto done = meta_->update([&](Superblock& block) {
        if (block.role == Role::standby && block.lineage == taken) {
            block.lineage = before;
        }
    });
    if (!done) {
        log(LogLevel::warning, "{}", done.error().message);
    }
}

Result<std::unique_ptr<nbd::Export>> Replica::open_export(const std::string& suffix,
                                                          std::function<void()> shutdown) {
    const std::string prefix = nbd::frames_prefix;
    if (!suffix.starts_with(prefix)) {
        return open_plain_export(suffix, std::move(shutdown));
    }
    const std::string plain_suffix = suffix.substr(prefix.size());
    nbd::FramedExport::Report report;
    // The other two are no members of a session, and may outlive us.
    if (plain_suffix.find('@') != std::string::npos) {
        report = [this](const Error& error) { report_garbled(error); };
    }
    return open_plain_export(plain_suffix, std::move(shutdown))
        .map([&](std::unique_ptr<nbd::Export>&& plain) -> std::unique_ptr<nbd::Export> {
            return std::make_unique<nbd::FramedExport>(std::move(plain), std::move(report));
        });
}

Result<std::unique_ptr<nbd::Export>> Replica::open_plain_export(const std::string& suffix,
                                                                std::function<void()> shutdown) {
    if (suffix == "/changes") {
        return regions_that_may_differ().map(
            [](const Bitmap& regions) { return make_changes_export(regions); });
    }
    if (suffix == nbd::progress_export) {
        return make_progress_export(activity_, backing_->device_counters());
    }
    constexpr std::string_view digest_prefix = "/digest@";
    const bool digests = suffix.starts_with(digest_prefix);
    if (!digests && !suffix.starts_with("@")) {
        return fail(ErrorKind::not_found, "there is no export of that name");
    }
    const auto session = parse_id<SessionId>(suffix.substr(digests ? digest_prefix.size() : 1));
    if (!session) {
        return Failure(session.error());
    }
    MutexLock lock(mutex_);
    if (auto current = require_session(*session); !current) {
        return Failure(current.error());
    }
    members_.push_front(Member{std::move(shutdown), activity_->open_lane()});
    has_had_members_ = true;
    auto member = std::make_unique<SessionMember>(*this, members_.begin());
    return digests ? make_digest_export(std::move(member), *session)
                   : make_data_export(std::move(member));
}

void Replica::on_garbled(std::function<void(const Error&)> callback) {
    MutexLock lock(mutex_);
    garbled_ = std::move(callback);
}

void Replica::on_disk_error(std::function<void(const Error&)> callback) {
    MutexLock lock(mutex_);
    disk_error_ = std::move(callback);
}

Result<void> Replica::require_session(const SessionId& session) const {
    if (!session_ || session_->id != session || session.is_none()) {
        return fail(ErrorKind::refused, "session {} has ended or never began", short_form(session));
    }
    return {};
}

bool Replica::drain_members(MutexLock& lock, std::optional<std::chrono::milliseconds> patience) {
    for (const Member& member : members_) {
        member.shutdown();
    }
    if (!patience) {
        while (!members_.empty()) {
            members_changed_.wait(lock);
        }
        return true;
    }
    SteadyTime::rep progress = members_progress();
    auto deadline = std::chrono::steady_clock::now() + *patience;
    while (!members_.empty()) {
        const auto now = std::chrono::steady_clock::now();
        if (const auto newer = members_progress(); newer != progress) {
            progress = newer;
            deadline = now + *patience;
            activity_->control().store(activity_->now(), std::memory_order_relaxed);
        } else if (now >= deadline) {
            return false;
        }
        (void)members_changed_.wait_until(lock, std::min(deadline, now + look_period));
    }
    return true;
}

SteadyTime::rep Replica::members_progress() const {
    SteadyTime::rep newest = activity_->last_flushed_piece().time_since_epoch().count();
    for (const Member& member : members_) {
        newest = std::max(newest, member.busy_since->load(std::memory_order_relaxed));
    }
    return newest;
}

Result<void> Replica::wait_for_turn(MutexLock& lock) {
    const auto deadline = std::chrono::steady_clock::now() + drain_patience;
    while (changing_session_) {
        if (members_changed_.wait_until(lock, deadline) == std::cv_status::timeout &&
            changing_session_) {
            return disk_is_busy();
        }
    }
    return {};
}

Result<void> Replica::clear_maps() {
    const std::uint64_t size = meta_->superblock().size;
    for (const MapKind kind : {MapKind::intent, MapKind::suspect, MapKind::changed}) {
        if (auto written = meta_->write_map(kind, Bitmap(map_bits(kind, size))); !written) {
            return written;
        }
    }
    return meta_->sync();
}

Result<Bitmap> Replica::regions_that_may_differ() const {
    auto maps = read_maps(*meta_);
    if (!maps) {
        return Failure(maps.error());
    }
    constexpr std::uint64_t blocks_per_region = region_size / block_size;
    const Bitmap& changed = maps->changed;
    std::uint64_t from = 0;
    while (const auto run = changed.next_run(from, changed.size())) {
        maps->regions.set(
            {run->first / blocks_per_region, divide_up(run->last, blocks_per_region)});
        from = run->last;
    }
    return std::move(maps->regions);
}

void Replica::report_disk_error(const Error& error) {
    std::function<void(const Error&)> callback;
    {
        MutexLock lock(mutex_);
        callback = disk_error_;
    }
    if (callback) {
        callback(error);
    }
}

void Replica::report_garbled(const Error& error) {
    std::function<void(const Error&)> callback;
    {
        MutexLock lock(mutex_);
        callback = garbled_;
    }
    if (callback) {
        callback(error);
    }
}

void Replica::note_media(MediaOperation operation, ByteRange range, const Error& error) {
    if (is_media_error(error)) {
        (void)media_.note(
            {operation, range, MediaAction::peer_told, error.kind == ErrorKind::timed_out});
    }
}

SessionMember::~SessionMember() {
    MutexLock lock(replica_.mutex_);
    replica_.members_.erase(member_);
    replica_.members_changed_.notify_all();
}

void SessionMember::report(MediaOperation operation, ByteRange range, const Error& error) const {
    replica_.note_media(operation, range, error);
    if (operation != MediaOperation::read) {
        replica_.report_disk_error(error);
    }
}

}  // namespace mirror
