// SPDX-License-Identifier: BSD-3-Clause
// What the engine does when its own disk fails.
#include <algorithm>
#include <utility>

#include "core/engine/volume.hpp"

namespace mirror {
namespace {

/// A standby gives no more of its replica at a time.
constexpr std::uint64_t read_piece = 1 * MiB;

}  // namespace

Result<void> Volume::read_from_peer(std::span<std::byte> into, std::uint64_t offset,
                                    const Error& local_error) {
    while (!into.empty()) {
        const std::uint64_t length = std::min<std::uint64_t>(into.size(), read_piece);
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

void Volume::repair(std::span<const std::byte> good, std::uint64_t offset, const Error& unread) {
    // An application may have written meanwhile: what the peer has now is what counts, so it is
    // read again under the range lock.
    const ByteRange range{offset, good.size()};
    Result<void> repaired;
    {
        const auto held = ranges_.acquire(range);
        std::vector<std::byte> again(good.size());
        repaired = read_from_peer(again, offset,
                                  Error{ErrorKind::io, "it could not be read again from the peer"});
        if (repaired) {
            repaired = store_->write(again, offset);
        }
    }
    note_media(MediaOperation::read, range,
               repaired ? MediaAction::repaired : MediaAction::served_from_peer,
               repaired ? unread : repaired.error());
}

void Volume::note_media(MediaOperation operation, ByteRange range, MediaAction action,
                        const Error& cause) {
    if (!is_media_error(cause)) {
        return;
    }
    const MediaError error{operation, range, action, cause.kind == ErrorKind::timed_out};
    const auto unreported = media_.note(error);
    // A replica that is left out and a resync that stays incomplete have events of their own, and a
    // disk that hangs gets none from an application's thread.
    if (!unreported || action == MediaAction::replica_left_out || action == MediaAction::not_sent ||
        error.timed_out) {
        return;
    }
    const std::string more = *unreported == 0
                                 ? std::string()
                                 : fmt::format("; {} more since the last event", *unreported);
    events_.record({.id = "media-error",
                    .severity = Severity::warning,
                    .volume = name(),
                    .text = fmt::format("the disk of {}: {} of {} at offset {}: {}{}", node_,
                                        to_string(error.operation), format_size(error.range.length),
                                        error.range.offset, to_string(error.action), more),
                    .cause = cause.message,
                    .remedy = "check the disk's own error counters"});
}

Result<std::optional<IntentMap::Entered>> Volume::enter(ByteRange range) {
    std::optional<IntentMap::Entered> held;
    if (!membership_.uses_local()) {
        return held;  // its maps stand for nothing
    }
    auto entered = differences_->enter(range);
    if (entered) {
        held.emplace(std::move(*entered));
        return held;
    }
    if (entered.error().kind == ErrorKind::no_space) {
        // Only metadata of an older version, which found no space when they were opened, and
        // filesystems that need space to overwrite. No disk has failed, and it is good again when
        // there is space: no reason to give a replica up for ever.
        Error error = entered.error();
        error.remedy = fmt::format("free space in {}", node().state_dir);
        return Failure(std::move(error));
    }
    // The metadata are a part of the replica: without them it can take no write.
    const auto left_out = membership_.leave_out_local(entered.error(), FailedPart::metadata);
    note_media(MediaOperation::metadata, {},
               left_out ? MediaAction::replica_left_out : MediaAction::request_failed,
               entered.error());
    if (!left_out) {
        return Failure(entered.error());
    }
    return held;
}

Result<void> Volume::left_out_after(const Membership::Parties& parties, const Result<void>& peer,
                                    const Error& error, MediaOperation operation, ByteRange range) {
    auto left_out = parties.session && peer ? membership_.leave_out_local(parties.session, error)
                                            : Failure(error);
    note_media(operation, range,
               left_out ? MediaAction::replica_left_out : MediaAction::request_failed, error);
    return left_out;
}

}  // namespace mirror
