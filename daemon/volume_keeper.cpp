// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/volume_keeper.hpp"

#include <cerrno>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/log.hpp"
#include "core/control/metadata_json.hpp"
#include "core/meta/transitions.hpp"
#include "core/store/file_store.hpp"
#include "daemon/active_mark.hpp"
#include "daemon/recognise_backing.hpp"

namespace mirror::daemon {

VolumeKeeper::VolumeKeeper(const Context& context, VolumeHome home, PeerWatch& peers,
                           DeviceAttacher& devices)
    : context_(context),
      name_(home.volume.name),
      peers_(peers),
      devices_(devices),
      paths_(EnginePaths::of(home.node, home.volume.name)),
      client_(paths_.express, paths_.socket, name_),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    move_to(std::move(home));
}

VolumeKeeper::~VolumeKeeper() {
    stop();
}

Result<void> VolumeKeeper::start() {
    if (!wake_.is_open()) {
        return fail(ErrorKind::internal, "no event descriptor for the supervisor of {}", name());
    }
    if (const auto operation = begin("start")) {
        find_place(*operation);
        find_device();
    }
    return start_thread(supervisor_, "supervisor", [this] { supervise(); });
}

void VolumeKeeper::stop() {
    {
        MutexLock lock(mutex_);
        stopping_ = true;
    }
    wake();
    if (supervisor_.joinable()) {
        supervisor_.join();
    }
    if (const auto operation = begin("stop")) {
        close_replica(*operation);
    }
}

void VolumeKeeper::move_to(VolumeHome home) {
    homes_.push_back(std::make_unique<const VolumeHome>(std::move(home)));
    home_.store(homes_.back().get(), std::memory_order_release);
}

void VolumeKeeper::take_home(const Operation&, VolumeHome home) {
    move_to(std::move(home));
    MutexLock lock(mutex_);
    settings_told_ = false;
    ++settings_version_;
    tell_due_ = SteadyTime{};
}

void VolumeKeeper::retire(Operation operation) {
    {
        MutexLock lock(mutex_);
        stopping_ = true;
    }
    wake();
    if (supervisor_.joinable()) {
        supervisor_.join();
    }
    // The operation keeps everybody from the place; leases that are there end with their sessions.
    close_replica(operation);
    client_.forget();
    {
        MutexLock lock(mutex_);
        engine_.reset();
        place_ = Place::changing;
    }
    retired_.emplace(std::move(operation));
}

const std::string& VolumeKeeper::backing_path() const {
    return config().backing.at(node());
}

std::string VolumeKeeper::meta_file() const {
    return meta_path(lives().node.state_dir, name());
}

Settings VolumeKeeper::shared_settings() const {
    const auto& volumes = context_.as_read().volumes;
    const auto found = volumes.find(name());
    return found == volumes.end() ? Settings() : found->second.shared_settings();
}

void VolumeKeeper::record(std::string id, Severity severity, std::string text, std::string cause,
                          std::string remedy) {
    if (severity != Severity::info && remedy.empty()) {
        remedy = fmt::format("mirrorctl status {}", name());
    }
    context_.events.record(
        {std::move(id), severity, name(), std::move(text), std::move(cause), std::move(remedy)});
}

VolumeKeeper::Operation::~Operation() {
    if (keeper_ != nullptr && is_borrowed_) {
        keeper_->end_restart();
    } else if (keeper_ != nullptr) {
        keeper_->end_operation();
    }
}

Result<VolumeKeeper::Operation> VolumeKeeper::begin(const std::string& what) {
    MutexLock lock(mutex_);
    if (!operation_.empty()) {
        return Failure(
            Error{ErrorKind::busy,
                  fmt::format("another operation ({}) is in progress on {}", operation_, name()),
                  "try again when it has ended"});
    }
    operation_ = what;
    return Operation(*this);
}

void VolumeKeeper::end_operation() noexcept {
    {
        MutexLock lock(mutex_);
        operation_.clear();
    }
    wake();
}

VolumeKeeper::Lease::~Lease() {
    if (keeper_ != nullptr) {
        keeper_->return_lease();
    }
}

void VolumeKeeper::return_lease() noexcept {
    MutexLock lock(mutex_);
    --leases_;
    changed_.notify_all();
}

Failure VolumeKeeper::why_no_replica() const {
    switch (place_) {
        case Place::absent:
            return Failure(Error{ErrorKind::not_found,
                                 fmt::format("{} has no replica of {} yet", node(), name()),
                                 fmt::format("mirrorctl create {}", name()), 0, Ground::state});
        case Place::active:
            return Failure(Error{ErrorKind::refused,
                                 fmt::format("{} is active on {}", name(), node()),
                                 {},
                                 0,
                                 Ground::state});
        case Place::failed:
            return fail(ErrorKind::refused, "{}", failure_);
        default:
            return Failure(Error{
                ErrorKind::busy,
                fmt::format("another operation ({}) is in progress on {}", operation_, name()),
                "try again when it has ended"});
    }
}

Result<VolumeKeeper::Lease> VolumeKeeper::replica() {
    MutexLock lock(mutex_);
    if (place_ != Place::standby || !replica_) {
        return why_no_replica();
    }
    ++leases_;
    return Lease(*this, *replica_);
}

Result<VolumeKeeper::Lease> VolumeKeeper::replica_now() {
    if (place() == Place::failed) {
        // Another thread may have opened it by now: reopen() looks again under the operation.
        if (const auto operation = begin("open")) {
            if (auto opened = reopen(*operation); !opened) {
                return Failure(opened.error());
            }
        }
    }
    return replica();
}

Place VolumeKeeper::place() const {
    MutexLock lock(mutex_);
    return place_;
}

bool VolumeKeeper::engine_is_running() const {
    MutexLock lock(mutex_);
    return engine_ && engine_->is_running();
}

/// A name in the configuration was changed, or a folder copied or mounted from elsewhere. The disk
/// is healthy, and its data are whose name stands there.
Error VolumeKeeper::foreign_metadata(const Superblock& block) const {
    const bool is_other_volume = block.volume_name != name();
    return {ErrorKind::invalid,
            fmt::format("{} is the metadata of volume {} on node {}", meta_file(),
                        block.volume_name, block.node),
            fmt::format("a replica belongs to the names that it was made with: name the {} {} "
                        "again in the configuration of both nodes; or give up what lies in {}, and "
                        "have it filled by {}: mirrorctl create {} --replace",
                        is_other_volume ? "volume" : "node",
                        is_other_volume ? block.volume_name : block.node, backing_path(), peer(),
                        name())};
}

std::string VolumeKeeper::advice_for_open(const Error& error) const {
    if (error.kind == ErrorKind::corrupt) {
        // What is damaged is not repaired, and the other node has all of it.
        return fmt::format(
            "restore what is named above from a backup and restart mirrord; or give it up, and "
            "have {} fill a new replica: mirrorctl create {} --replace",
            peer(), name());
    }
    if (!error.remedy.empty()) {
        return error.remedy;
    }
    switch (error.kind) {
        case ErrorKind::io:
            return fmt::format(
                "repair or replace what is named above, then mirrorctl create {} "
                "--replace (the reason is in: mirrorctl events {})",
                name(), name());
        case ErrorKind::not_found:
            return fmt::format(
                "put it back in its place and restart mirrord; where it is lost: "
                "mirrorctl create {} --replace",
                name());
        default:
            return "correct that, then restart mirrord";
    }
}

VolumeKeeper::Loaded VolumeKeeper::load_replica(std::chrono::seconds patience) {
    const auto unusable = [](Error error, const char* fault) {
        return tl::unexpected(Unusable{std::move(error), fault});
    };
    if (!lives().conflict.empty()) {
        return unusable({ErrorKind::refused, lives().conflict,
                         fmt::format("mirrorctl status on {} says what else is in use", node())},
                        "backing");
    }
    auto backing = opener_.open(backing_path(), patience);
    if (!backing) {
        return unusable(backing.error(), "backing");
    }
    auto meta = open_meta(meta_file());
    if (!meta) {
        return unusable(meta.error(), "metadata");
    }
    const Superblock block = (*meta)->superblock();
    if (block.state == ReplicaState::failed) {
        (*backing)->forget_cache();
    }
    if (!(*backing)->use_first(block.size)) {
        return unusable({ErrorKind::invalid,
                         fmt::format("{} has {} bytes, but volume {} has {}", backing_path(),
                                     (*backing)->size(), name(), block.size),
                         "restore the file, or recreate the replica"},
                        "backing");
    }
    if (block.volume_name != name() || block.node != node()) {
        return unusable(foreign_metadata(block), "metadata");
    }
    if (auto known = recognise_backing(*this, **backing, **meta); !known) {
        return unusable(known.error(), "backing");
    }
    return Replica::open(std::move(*backing), std::move(*meta), context_.clock)
        .map_error([](Error error) {
            return Unusable{std::move(error), "metadata"};
        });
}

void VolumeKeeper::note_damage(const MetaFile& meta) {
    const MetaFile::Damage damage = meta.damage();
    {
        MutexLock lock(mutex_);
        if (std::exchange(damage_noted_, damage.sectors) == damage.sectors) {
            return;
        }
    }
    if (damage.sectors != 0) {
        context_.events.record(control::damaged_metadata(name(), node(), damage));
    }
}

void VolumeKeeper::tend_metadata() {
    if (const auto lease = replica()) {
        (*lease)->tend_metadata();
    }
}

Result<void> VolumeKeeper::open_standby(const Operation&, std::chrono::seconds patience) {
    // The disk is waited for without the mutex; whoever would change the place meanwhile needs the
    // operation.
    auto loaded = load_replica(patience);
    if (!loaded) {
        Error error = loaded.error().error;
        error.message =
            fmt::format("the replica of {} on {} can't be used: {}", name(), node(), error.message);
        MutexLock lock(mutex_);
        place_ = Place::failed;
        failure_ = error.message;
        advice_ = advice_for_open(error);
        fault_ = loaded.error().fault;
        return Failure(error);
    }
    note_damage((*loaded)->metadata());
    Replica* replica = loaded->get();
    replica->on_disk_error(
        [this, replica](const Error& error) { note_disk_error(*replica, error); });
    replica->on_garbled([this](const Error& error) { note_garbled(error); });
    MutexLock lock(mutex_);
    replica_ = std::move(*loaded);
    place_ = Place::standby;
    failure_.clear();
    engine_.reset();
    return {};
}

Result<void> VolumeKeeper::reopen(const Operation& operation) {
    if (place() != Place::failed) {
        return {};
    }
    return open_standby(operation).and_then([&] { return settle_as_standby(operation); });
}

void VolumeKeeper::close_replica(const Operation&) {
    std::unique_ptr<Replica> closing;
    {
        MutexLock lock(mutex_);
        if (!replica_) {
            return;
        }
        closing = std::move(replica_);
        place_ = Place::changing;
    }
    // First close: a lease may be waiting for connections that only this ends.
    closing->close();
    {
        MutexLock lock(mutex_);
        while (leases_ > 0) {
            changed_.wait(lock);
        }
        last_summary_ = closing->summary();
    }
}

void VolumeKeeper::note_disk_error(Replica& replica, const Error& error) {
    if (error.kind != ErrorKind::no_space) {
        (void)replica.update([](Superblock& block) {
            ++block.media_errors;
            block.state = ReplicaState::failed;  // until a session has compared all of it
        });
    }
    {
        // Several threads may come here at once; the close of the replica waits for all of them.
        // One failing disk gives many errors in a row, each time that the active tries again.
        MutexLock lock(mutex_);
        if (std::exchange(disk_error_, error.message) == error.message) {
            return;
        }
    }
    record("local-disk-failed", Severity::error,
           fmt::format("a write to the replica of {} on {} failed", name(), node()), error.message,
           error.remedy);
}

void VolumeKeeper::note_garbled(const Error& error) {
    record("link-garbled", Severity::warning,
           fmt::format("a bit was flipped between {} and {} in data for the replica of {}; none of "
                       "it was written, and it is sent again",
                       peer(), node(), name()),
           error.message, "check the network cards, cables and switches between the nodes");
}

Result<void> VolumeKeeper::settle_as_standby(const Operation&) {
    remove_marker();
    const auto lease = replica();
    if (!lease) {
        return Failure(lease.error());
    }
    if ((*lease)->superblock().role == Role::standby) {
        return {};
    }
    return (*lease)->update(settle);
}

Result<void> VolumeKeeper::write_marker() {
    return write_active_mark(paths_.marker, boot_id(), false);
}

void VolumeKeeper::remove_marker() noexcept {
    ::unlink(paths_.marker.c_str());
    ::unlink(paths_.settings.c_str());
    MutexLock lock(mutex_);
    waits_for_peer_ = false;
}

bool VolumeKeeper::waits_for_peer() const {
    MutexLock lock(mutex_);
    return waits_for_peer_;
}

Result<void> VolumeKeeper::wait_for_peer(const Operation&) {
    // Before the superblock says standby: then only the marker remembers.
    if (auto marked = write_active_mark(paths_.marker, boot_id(), true); !marked) {
        return marked;
    }
    {
        const auto lease = replica();
        if (!lease) {
            return Failure(lease.error());
        }
        if ((*lease)->superblock().role == Role::active) {
            if (auto settled = (*lease)->update(settle); !settled) {
                return settled;
            }
        }
    }
    MutexLock lock(mutex_);
    waits_for_peer_ = true;
    waiting_noted_ = false;
    restart_due_ = SteadyTime{};
    return {};
}

/// It asks the peer, then starts the engine, and tries again where that fails.
void VolumeKeeper::leave_to_supervisor() {
    MutexLock lock(mutex_);
    place_ = Place::active;
    failure_ = fmt::format("the engine of {} does not run; it is being started", name());
    advice_ = fmt::format(
        "nothing, if that lasts only a moment; the reason is in: mirrorctl events {}", name());
    death_noted_ = true;
}

void VolumeKeeper::take_engine(const Operation& operation, std::shared_ptr<EngineProcess> engine) {
    log(LogLevel::info, "{}: the engine still runs (pid {})", name(), engine->pid());
    {
        MutexLock lock(mutex_);
        engine_ = std::move(engine);
        engine_started_ = context_.clock.steady_now();
        engine_has_run_ = true;
        place_ = Place::active;
        failure_.clear();
    }
    restore_files(operation);
}

void VolumeKeeper::find_place(const Operation& operation) {
    // First: what runs is in use, whatever became of its files.
    if (auto engine = EngineProcess::adopt(paths_, node())) {
        return take_engine(operation, std::move(engine));
    }
    if (const auto other = engine_at(paths_.socket)) {
        MutexLock lock(mutex_);
        place_ = Place::failed;
        failure_ = fmt::format("an engine serves {} here that was started for node {} (pid {})",
                               name(), other->node, other->pid);
        return;
    }
    if (::access(meta_file().c_str(), F_OK) != 0 && errno == ENOENT) {
        remove_marker();
        MutexLock lock(mutex_);
        place_ = Place::absent;
        return;
    }
    const ActiveMark mark = read_active_mark(paths_.marker, boot_id());
    if (auto opened = open_standby(operation); !opened) {
        log(LogLevel::error, "{}", opened.error().text());
        if (mark.counts() && opened.error().kind == ErrorKind::busy) {
            // An engine that was killed a moment ago may hold its files until it is gone.
            leave_to_supervisor();
        }
        return;
    }
    Superblock block;
    if (const auto lease = replica()) {
        block = (*lease)->superblock();
    }
    if (mark.counts() && (block.role == Role::active || mark.waits_for_peer)) {
        if (auto waiting = wait_for_peer(operation); !waiting) {
            log(LogLevel::error, "{}: {}", name(), waiting.error().text());
            close_replica(operation);
            leave_to_supervisor();
        }
        return;
    }
    if (block.role == Role::active || mark.waits_for_peer) {
        record("not-resumed", Severity::warning,
               fmt::format("{} was active on {} before the machine started; it is standby now",
                           name(), node()),
               config().active_at_boot == node()
                   ? "active_at_boot: it is promoted as soon as a plain promotion is allowed"
                   : "a node never becomes active automatically after a reboot",
               fmt::format("mirrorctl promote {}", name()));
    }
    if (auto settled = settle_as_standby(operation); !settled) {
        log(LogLevel::error, "{}: {}", name(), settled.error().text());
    }
}

}  // namespace mirror::daemon
