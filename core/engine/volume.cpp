// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/volume.hpp"

#include <algorithm>
#include <utility>

#include "core/base/log.hpp"
#include "core/control/metadata_json.hpp"
#include "core/engine/peer_leg.hpp"
#include "core/lineage/promotion.hpp"
#include "core/meta/backing_record.hpp"
#include "core/meta/transitions.hpp"
#include "core/nbd/frame.hpp"
#include "core/store/file_store.hpp"

namespace mirror {
namespace {

std::unique_ptr<Store> with_patience(std::unique_ptr<FileStore> file,
                                     const std::shared_ptr<DiskPatience>& patience) {
    if (!patience) {
        return file;
    }
    FileStore& opened = *file;  // kept by the other store, and by whoever hangs in it
    return std::make_unique<TimedStore>(std::move(file), patience, opened.path(),
                                        [&opened](std::span<std::byte> into, std::uint64_t at) {
                                            return opened.read_cached(into, at);
                                        });
}

/// mirrord had the replica open before and looked at it; since then nobody may have touched it.
Result<void> require_same_backing(const FileStore& file, const Superblock& block) {
    if (block.doubtful) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("volume {}: {} is not as it was left", block.volume_name, file.path()),
            fmt::format("mirrorctl demote {}: then it is compared with {}", block.volume_name,
                        block.peer)});
    }
    const auto identity = file.identity();
    const auto mark = file.change_mark();
    if (!identity || !mark) {
        return Failure(identity ? mark.error() : identity.error());
    }
    const BackingVerdict verdict = judge_backing(block, *identity, *mark);
    if (verdict == BackingVerdict::as_left || verdict == BackingVerdict::first_seen) {
        return {};
    }
    return Failure(Error{ErrorKind::refused,
                         fmt::format("volume {}: {}", block.volume_name,
                                     describe_verdict(verdict, block, file.path(), *identity)),
                         fmt::format("put the right one there, or mirrorctl demote {}: then it is "
                                     "compared with {}",
                                     block.volume_name, block.peer)});
}

}  // namespace

Result<std::unique_ptr<Volume>> Volume::open(const Options& options) {
    auto config = load_config(options.config_path);
    if (!config) {
        return Failure(config.error());
    }
    const auto node = config->node(options.node);
    const auto volume = config->volume(options.volume);
    if (!node || !volume) {
        return Failure(!node ? node.error() : volume.error());
    }
    const auto path = (*volume)->backing.find(options.node);
    if (path == (*volume)->backing.end()) {
        return fail(ErrorKind::invalid, "volume {} has no backing on {}", options.volume,
                    options.node);
    }
    auto file = FileStore::open(path->second, FileStore::Lock::exclusive);
    if (!file) {
        return Failure(file.error());
    }
    const auto patience = (*volume)->disk_timeout.count() == 0
                              ? nullptr
                              : std::make_shared<DiskPatience>((*volume)->disk_timeout);
    auto meta = open_meta(meta_path((*node)->state_dir, options.volume),
                          [&](std::unique_ptr<FileStore> found) {
                              return with_patience(std::move(found), patience);
                          });
    if (!meta) {
        return Failure(meta.error());
    }
    const Superblock block = (*meta)->superblock();
    if (block.role != Role::active) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("volume {} is not active on {}", options.volume, options.node),
                  fmt::format("mirrorctl promote {}", options.volume)});
    }
    if (const auto why = why_not_serve(summarize(block, 0, 0), (*volume)->peer_of(options.node))) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("volume {} can't be served by {}: {}", options.volume, options.node, *why),
            fmt::format("mirrorctl status {}", options.volume)});
    }
    if (auto fits = (*file)->use_first(block.size); !fits) {
        return Failure(fits.error().within(fmt::format("volume {}", options.volume)));
    }
    if (auto same = require_same_backing(**file, block); !same) {
        return Failure(same.error());
    }
    auto store = with_patience(std::move(*file), patience);
    auto differences = Differences::load(**meta);
    if (!differences) {
        return Failure(differences.error());
    }
    return std::make_unique<Volume>(std::move(*config), options.node, options.volume,
                                    std::move(store), std::move(*meta), std::move(*differences),
                                    system_clock(), patience);
}

Volume::Volume(Config config, const std::string& node, const std::string& volume,
               std::unique_ptr<Store> store, std::unique_ptr<MetaFile> meta,
               std::unique_ptr<Differences> differences, const Clock& clock,
               std::shared_ptr<DiskPatience> patience)
    : config_(std::move(config)),
      settings_(config_.volumes.at(volume)),
      node_(node),
      clock_(clock),
      events_(config_.nodes.at(node).state_dir + "/events.jsonl", node, clock),
      store_(std::move(store)),
      meta_(std::move(meta)),
      differences_(std::move(differences)),
      membership_({volume, node, settings_.peer_of(node), settings_.on_peer_loss}, *meta_,
                  *differences_, events_, clock),
      peer_({config_, settings_, node, *store_, *meta_, *differences_, ranges_, membership_,
             events_, clock,
             [this](ByteRange range, const Error& cause) {
                 note_media(MediaOperation::read, range, MediaAction::not_sent, cause);
             }}),
      verify_(
          {settings_,
           node,
           verify_record_path(config_.nodes.at(node).state_dir, volume),
           {*store_, *differences_, ranges_, membership_,
            // Not through the gate: it holds a range, for which a held engine waits.
            [this](std::span<std::byte> into, std::uint64_t at) { return read_inside(into, at); },
            settings_.peer_timeout},
           *meta_,
           events_,
           clock}),
      media_(clock, meta_->superblock().media_errors),
      recorded_errors_(media_.total()),
      patience_(std::move(patience)),
      taken_(config_) {}

void Volume::refuse_requests() {
    gate_.close();
    membership_.shut_down();
}

Volume::~Volume() {
    refuse_requests();
    verify_.stop();
    gate_.wait_until_empty();
    peer_.stop();
    {
        MutexLock lock(house_mutex_);
        house_closed_ = true;
        house_wake_.notify_all();
    }
    if (housekeeper_.joinable()) {
        housekeeper_.join();
    }
    if (patience_) {
        patience_->set_judge({});
    }
    if (recorder_.joinable()) {
        recorder_.join();
    }
}

Result<void> Volume::start() {
    auto recorded = meta_->update([](Superblock& block) {
        begin_to_serve(block);
        open_backing(block);
    });
    if (!recorded) {
        return recorded;
    }
    membership_.on_in_sync([this] { verify_.hint(); });
    membership_.on_local_out([this](bool is_recorded) {
        if (!is_recorded) {
            record_failure_soon();
        }
        wake_housekeeper();
    });
    if (patience_) {
        patience_->set_judge([this](const Error& silence) {
            return membership_.leave_out_local(silence).has_value();
        });
    }
    differences_->on_leaving_quiet([this] {
        wake_housekeeper();
        return peer_.leave_quiet();
    });
    report_damage();
    return peer_.start().and_then([&] { return verify_.start(); }).and_then([&] {
        return start_thread(housekeeper_, "housekeeper", [this] { keep_house(); });
    });
}

/// Not by the housekeeper alone, whose checkpoint may wait for the disk that hangs.
void Volume::record_failure_soon() {
    auto started =
        start_thread(recorder_, "recorder", [this] { membership_.record_local_failure(); });
    if (!started) {
        log(LogLevel::warning, "volume {}: {}", name(), started.error().text());
    }
}

void Volume::report_damage() {
    const MetaFile::Damage damage = meta_->damage();
    if (damage.sectors != 0) {
        events_.record(control::damaged_metadata(name(), node_, damage));
    }
}

Failure Volume::no_longer_active() const {
    return fail(ErrorKind::refused, "volume {} is no longer active here", name());
}

Result<void> Volume::read(std::span<std::byte> into, std::uint64_t offset) {
    const auto pass = gate_.enter();
    if (!pass) {
        return no_longer_active();
    }
    return read_inside(into, offset);
}

Result<void> Volume::read_inside(std::span<std::byte> into, std::uint64_t offset) {
    if (!membership_.uses_local()) {
        return read_from_peer(into, offset,
                              Error{ErrorKind::io, fmt::format("the disk of {} failed", node_)});
    }
    auto local = store_->read(into, offset);
    if (local) {
        return local;
    }
    auto remote = read_from_peer(into, offset, local.error());
    if (remote && membership_.uses_local()) {
        repair(into, offset, local.error());
    } else {
        note_media(MediaOperation::read, {offset, into.size()},
                   remote ? MediaAction::served_from_peer : MediaAction::request_failed,
                   local.error());
    }
    return remote;
}

Result<void> Volume::write(std::span<const std::byte> from, std::uint64_t offset,
                           Durability durability) {
    while (!from.empty()) {
        const std::uint64_t length = std::min<std::uint64_t>(from.size(), max_piece);
        auto done = apply(
            {.range = {offset, length}, .data = from.first(length), .durability = durability});
        if (!done) {
            return done;
        }
        from = from.subspan(length);
        offset += length;
    }
    return {};
}

Result<void> Volume::zero(ByteRange range, Space space, Durability durability) {
    while (!range.empty()) {
        const std::uint64_t length = std::min(range.length, max_piece);
        auto done =
            apply({.range = {range.offset, length}, .space = space, .durability = durability});
        if (!done) {
            return done;
        }
        range = {range.offset + length, range.length - length};
    }
    return {};
}

Result<void> Volume::apply(const Change& change) {
    const auto pass = gate_.enter();
    if (!pass) {
        return no_longer_active();
    }
    Underway underway;
    underway.range.emplace(ranges_.acquire(change.range));
    auto entered = enter(change.range);
    if (!entered) {
        return Failure(entered.error());
    }
    if (*entered) {
        underway.intent.emplace(std::move(**entered));
    }
    auto parties = membership_.parties_of_write(change.range);
    if (!parties) {
        return Failure(parties.error());
    }
    underway.parties = std::move(*parties);
    // While both have it the session may end, another one begin, and the disk be left out. The
    // range lock keeps a resync of this range away until settle() has looked again; what the peer
    // lacks is found by the intent, or marked by peer_failed().
    Result<void> local;
    const Result<void> peer = apply_on_both(change, underway.parties, local);
    return settle(change, underway, std::move(local), peer);
}

/// The session may end, and the disk here fail, while this waits for its turn: the link and the
/// store say so then, and settle() treats it as if it had happened during the change.
Result<void> Volume::apply_on_both(const Change& change, const Membership::Parties& parties,
                                   Result<void>& local) {
    const LargeWork::Turn turn = parties.session
                                     ? parties.session->large_work().enter(change.range.length)
                                     : LargeWork::Turn();
    PeerLeg leg;
    if (parties.session) {
        send(parties.session->data(), change, leg.completion());
    }
    if (parties.local) {
        local = apply_locally(change);
    }
    return parties.session ? leg.wait() : Result<void>{};
}

Result<void> Volume::settle(const Change& change, Underway& underway, Result<void> local,
                            const Result<void>& peer) {
    const Membership::Parties& parties = underway.parties;
    if (!local) {
        local = left_out_after(parties, peer, local.error(), MediaOperation::write, change.range);
    }
    if (parties.session && (!peer || !local)) {
        // Where the peer has what the local disk does not, they differ as well.
        membership_.peer_failed(parties.session, change.range, peer ? local.error() : peer.error());
    }
    if (!local || (!parties.local && !peer)) {
        return local ? peer : local;
    }
    if (parties.session && peer) {
        differences_->clear_covered(change.range, [&] { return parties.session->is_lost(); });
        return {};
    }
    if (!membership_.stops_without_peer()) {
        return membership_.record_alone();
    }
    // A resync of the range must not wait for what waits for that resync.
    underway.let_go();
    return membership_.wait_for_peer(change.range);
}

Result<void> Volume::apply_locally(const Change& change) {
    auto done = change.data.empty() ? store_->zero(change.range, change.space)
                                    : store_->write(change.data, change.range.offset);
    return done && change.durability == Durability::fua ? store_->flush() : done;
}

void Volume::send(nbd::Link& link, const Change& change, nbd::Link::Completion done) {
    const bool fua = change.durability == Durability::fua;
    if (change.data.empty()) {
        link.zero(change.range, change.space, fua, std::move(done));
    } else {
        link.write(change.data, change.range.offset, fua, std::move(done));
    }
}

Result<void> Volume::flush() {
    const auto pass = gate_.enter();
    if (!pass) {
        return no_longer_active();
    }
    return flushes_.run([this] { return flush_parties(); });
}

Result<void> Volume::flush_parties() {
    const Membership::Parties parties = membership_.parties_of_flush();
    if (!parties.local && !parties.session) {
        return membership_.record_alone();  // says that no replica is left
    }
    PeerLeg leg;
    if (parties.session) {
        parties.session->data().flush(leg.completion());
    }
    Result<void> local = parties.local ? store_->flush() : Result<void>{};
    const Result<void> peer = parties.session ? leg.wait() : Result<void>{};
    return settle_flush(parties, std::move(local), peer);
}

Result<void> Volume::settle_flush(const Membership::Parties& parties, Result<void> local,
                                  const Result<void>& peer) {
    if (!local) {
        local = left_out_after(parties, peer, local.error(), MediaOperation::flush, {});
    }
    if (parties.session && !peer) {
        membership_.peer_failed(parties.session, {}, peer.error());
    }
    if (!local || (!parties.local && !peer)) {
        return local ? peer : local;
    }
    if (parties.session && peer) {
        return {};
    }
    if (membership_.stops_without_peer()) {
        return membership_.wait_for_peer({});
    }
    // What the peer answered, and had not flushed when its session ended, it may have lost: from
    // now on this flush is a promise that only we keep. Where all is flushed on both there is none.
    return parties.session || !differences_->empty() ? membership_.record_alone() : Result<void>{};
}

Result<std::vector<Extent>> Volume::extents(ByteRange range) {
    if (!membership_.uses_local()) {
        return std::vector<Extent>{{range, false}};
    }
    return store_->extents(range);
}

}  // namespace mirror
