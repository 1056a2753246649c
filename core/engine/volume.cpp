// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/volume.hpp"

#include <algorithm>
#include <utility>

#include "core/engine/peer_leg.hpp"
#include "core/nbd/frame.hpp"
#include "core/meta/transitions.hpp"
#include "core/nbd/wire.hpp"
#include "core/store/file_store.hpp"

namespace mirror {
namespace {

/// The longest change under one range lock: what an NBD peer takes in one request, and short
/// enough that a slow disk answers it well within any sensible peer_timeout.
constexpr std::uint64_t max_piece = nbd::max_payload;

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
    auto store = FileStore::open(path->second, FileStore::Lock::exclusive);
    if (!store) {
        return Failure(store.error());
    }
    auto meta = open_meta(meta_path((*node)->state_dir, options.volume));
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
    if (block.size != (*store)->size()) {
        return fail(ErrorKind::invalid, "volume {}: {} has {}, the metadata says {}",
                    options.volume, path->second, format_size((*store)->size()),
                    format_size(block.size));
    }
    auto differences = Differences::load(**meta);
    if (!differences) {
        return Failure(differences.error());
    }
    return std::make_unique<Volume>(std::move(*config), options.node, options.volume,
                                    std::move(*store), std::move(*meta), std::move(*differences),
                                    system_clock());
}

Volume::Volume(Config config, const std::string& node, const std::string& volume,
               std::unique_ptr<Store> store, std::unique_ptr<MetaFile> meta,
               std::unique_ptr<Differences> differences, const Clock& clock)
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
             events_, clock}),
      verify_({settings_,
               node,
               verify_record_path(config_.nodes.at(node).state_dir, volume),
               {*store_, *differences_, ranges_, membership_,
                [this](std::span<std::byte> into, std::uint64_t at) { return read(into, at); },
                settings_.peer_timeout},
               *meta_,
               events_,
               clock}) {}

Volume::~Volume() {
    gate_.close();
    membership_.shut_down();
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
}

Result<void> Volume::start() {
    auto recorded = meta_->update(begin_to_serve);
    if (!recorded) {
        return recorded;
    }
    peer_.start();
    verify_.start();
    housekeeper_ = std::thread([this] { keep_house(); });
    return {};
}

Result<void> Volume::read(std::span<std::byte> into, std::uint64_t offset) {
    const auto pass = gate_.enter();
    if (!pass) {
        return fail(ErrorKind::refused, "volume {} is no longer active here", name());
    }
    if (!membership_.parties().local) {
        return read_from_peer(into, offset,
                              Error{ErrorKind::io, fmt::format("the disk of {} failed", node_)});
    }
    auto local = store_->read(into, offset);
    if (local) {
        return local;
    }
    ++media_errors_;
    auto remote = read_from_peer(into, offset, local.error());
    if (remote) {
        repair(into, offset);
    }
    return remote;
}

Result<void> Volume::read_from_peer(std::span<std::byte> into, std::uint64_t offset,
                                    const Error& local_error) {
    while (!into.empty()) {
        const std::uint64_t length = std::min<std::uint64_t>(into.size(), nbd::max_framed_read);
        const Membership::Parties parties = membership_.parties();
        const bool peer_has_it = parties.session && (parties.mode == MirrorMode::in_sync ||
                                                     !differences_->overlaps({offset, length}));
        if (!peer_has_it) {
            return Failure(local_error);
        }
        if (auto read = parties.session->data().read(into.first(length), offset); !read) {
            return Failure(local_error);
        }
        into = into.subspan(length);
        offset += length;
    }
    return {};
}

void Volume::repair(std::span<const std::byte> good, std::uint64_t offset) {
    // An application may have written meanwhile: what the peer has now is what counts, so it is
    // read again under the range lock.
    const ByteRange range{offset, good.size()};
    const auto held = ranges_.acquire(range);
    std::vector<std::byte> again(good.size());
    const Error unread{ErrorKind::io, "could not be read again from the peer"};
    Result<void> repaired = read_from_peer(again, offset, unread);
    if (repaired) {
        repaired = store_->write(again, offset);
    }
    events_.record(
        {.id = "media-error",
         .severity = Severity::warning,
         .volume = name(),
         .text = fmt::format("{} at offset {} could not be read from the disk of {} "
                             "and came from {}; {}",
                             format_size(good.size()), offset, node_, settings_.peer_of(node_),
                             repaired ? "the disk was written again" : "writing it again failed"),
         .cause = repaired ? "" : repaired.error().message,
         .remedy = "look at the disk's own error counters"});
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
        return fail(ErrorKind::refused, "volume {} is no longer active here", name());
    }
    {
        const auto held = ranges_.acquire(change.range);
        const auto entered = differences_->enter(change.range);
        if (!entered) {
            return Failure(entered.error());
        }
        const auto parties = membership_.parties_of_write(change.range);
        if (!parties) {
            return Failure(parties.error());
        }
        PeerLeg leg;
        if (parties->session) {
            send(parties->session->data(), change, leg.completion());
        }
        Result<void> local = parties->local ? apply_locally(change) : Result<void>{};
        const Result<void> peer = parties->session ? leg.wait() : Result<void>{};

        if (!local) {
            ++media_errors_;
            local = parties->session && peer
                        ? membership_.leave_out_local(parties->session, local.error())
                        : local;
        }
        if (parties->session && (!peer || !local)) {
            // Where the peer has what the local disk does not, they differ as well.
            membership_.peer_failed(parties->session, change.range,
                                    peer ? local.error() : peer.error());
        }
        if (!local || (!parties->local && !peer)) {
            return local ? peer : local;
        }
        if (parties->session && peer) {
            differences_->clear_covered(change.range, [&] { return parties->session->is_lost(); });
            return {};
        }
        if (!membership_.stops_without_peer()) {
            return membership_.record_alone();
        }
    }
    return membership_.wait_for_peer();
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
        return fail(ErrorKind::refused, "volume {} is no longer active here", name());
    }
    const Membership::Parties parties = membership_.parties();
    PeerLeg leg;
    if (parties.session) {
        parties.session->data().flush(leg.completion());
    }
    Result<void> local = parties.local ? store_->flush() : Result<void>{};
    const Result<void> peer = parties.session ? leg.wait() : Result<void>{};
    if (!local && parties.session && peer) {
        local = membership_.leave_out_local(parties.session, local.error());
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
        return membership_.wait_for_peer();
    }
    // Nothing has to be recorded when nothing was answered without the peer; writes see to theirs.
    return parties.session ? membership_.record_alone() : Result<void>{};
}

Result<std::vector<Extent>> Volume::extents(ByteRange range) {
    if (!membership_.parties().local) {
        return std::vector<Extent>{{range, false}};
    }
    return store_->extents(range);
}

}  // namespace mirror
