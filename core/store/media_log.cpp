// SPDX-License-Identifier: BSD-3-Clause
#include "core/store/media_log.hpp"

#include <algorithm>

namespace mirror {
namespace {

bool touch(ByteRange a, ByteRange b) noexcept {
    return a.offset <= b.end() && b.offset <= a.end();
}

ByteRange joined(ByteRange a, ByteRange b) noexcept {
    const std::uint64_t first = std::min(a.offset, b.offset);
    return {first, std::max(a.end(), b.end()) - first};
}

bool same_kind(const MediaError& a, const MediaError& b) noexcept {
    return a.operation == b.operation && a.action == b.action && a.timed_out == b.timed_out;
}

}  // namespace

std::string_view to_string(MediaOperation operation) noexcept {
    switch (operation) {
        case MediaOperation::read:
            return "read";
        case MediaOperation::write:
            return "write";
        case MediaOperation::flush:
            return "flush";
        case MediaOperation::metadata:
            return "metadata";
    }
    return "read";
}

std::string_view to_string(MediaAction action) noexcept {
    switch (action) {
        case MediaAction::repaired:
            return "repaired";
        case MediaAction::served_from_peer:
            return "served-from-peer";
        case MediaAction::replica_left_out:
            return "replica-left-out";
        case MediaAction::peer_told:
            return "peer-told";
        case MediaAction::not_sent:
            return "not-sent";
        case MediaAction::request_failed:
            return "request-failed";
    }
    return "request-failed";
}

bool is_media_error(const Error& error) noexcept {
    return error.kind == ErrorKind::io || error.kind == ErrorKind::timed_out ||
           error.kind == ErrorKind::corrupt;
}

std::optional<std::uint64_t> MediaLog::note(const MediaError& error) {
    const SteadyTime now = clock_.steady_now();
    MutexLock lock(mutex_);
    ++(error.operation == MediaOperation::read ? counters_.read_errors : counters_.write_errors);
    counters_.timeouts += error.timed_out ? 1 : 0;
    counters_.repaired += error.action == MediaAction::repaired ? 1 : 0;

    Entry entry{error, 1, clock_.wall_now()};
    // What the new range touches becomes one with it; more than one may.
    entries_.remove_if([&](const Entry& other) {
        if (!same_kind(other.error, entry.error) || !touch(other.error.range, entry.error.range)) {
            return false;
        }
        entry.error.range = joined(entry.error.range, other.error.range);
        entry.count += other.count;
        return true;
    });
    entries_.push_front(entry);
    if (entries_.size() > longest_list) {
        entries_.pop_back();
    }

    if (reported_ && now - *reported_ < report_every) {
        ++unreported_;
        return std::nullopt;
    }
    reported_ = now;
    return std::exchange(unreported_, 0);
}

MediaLog::View MediaLog::view() const {
    MutexLock lock(mutex_);
    View view = counters_;
    view.total = before_ + counters_.read_errors + counters_.write_errors;
    view.entries.assign(entries_.begin(), entries_.end());
    return view;
}

std::uint64_t MediaLog::total() const {
    MutexLock lock(mutex_);
    return before_ + counters_.read_errors + counters_.write_errors;
}

}  // namespace mirror
