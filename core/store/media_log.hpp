// SPDX-License-Identifier: BSD-3-Clause
// What went wrong on the disk under a replica, for status and events: counters, and the last ranges
// with what was done about them, neighbours merged. A dying disk gives thousands of errors: the
// list is short, and note() says which of them is to become an event, so that the log does not fill
// up. Kept in memory only; the owner sees to what must outlive it. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"
#include "core/base/sync.hpp"
#include "core/base/units.hpp"

namespace mirror {

enum class MediaOperation { read, write, flush, metadata };
[[nodiscard]] std::string_view to_string(MediaOperation operation) noexcept;

/// What was done about an error.
enum class MediaAction {
    repaired,          ///< read from the peer and written again
    served_from_peer,  ///< read from the peer, not (or not yet) repaired
    replica_left_out,  ///< the volume goes on from the peer's copy
    peer_told,         ///< on the standby: the active was answered with the error
    not_sent,          ///< a resync went on without it: the peer lacks it still
    request_failed,    ///< no other replica had it: the application got the error
};
[[nodiscard]] std::string_view to_string(MediaAction action) noexcept;

struct MediaError {
    MediaOperation operation = MediaOperation::read;
    ByteRange range;  ///< empty for a flush and for metadata
    MediaAction action = MediaAction::request_failed;
    bool timed_out = false;  ///< the disk gave no answer
};

class MediaLog {
  public:
    static constexpr std::size_t longest_list = 32;
    static constexpr std::chrono::seconds report_every{10};

    /// `before`: errors of earlier runs.
    explicit MediaLog(const Clock& clock, std::uint64_t before = 0)
        : clock_(clock), before_(before) {}

    /// Whether it is to be reported now: then how many were not since the last report.
    [[nodiscard]] std::optional<std::uint64_t> note(const MediaError& error);

    struct Entry {
        MediaError error;
        std::uint64_t count = 1;
        WallTime last{};
    };
    struct View {
        std::uint64_t total = 0;  ///< those of earlier runs included
        // Since the start:
        std::uint64_t read_errors = 0;
        std::uint64_t write_errors = 0;  ///< flushes and metadata included
        std::uint64_t timeouts = 0;      ///< of either kind
        std::uint64_t repaired = 0;
        std::vector<Entry> entries{};  ///< newest first
    };
    [[nodiscard]] View view() const;
    [[nodiscard]] std::uint64_t total() const;

  private:
    const Clock& clock_;
    const std::uint64_t before_;

    mutable Mutex mutex_;
    View counters_ GUARDED_BY(mutex_);  ///< but for the entries
    std::list<Entry> entries_ GUARDED_BY(mutex_);
    std::optional<SteadyTime> reported_ GUARDED_BY(mutex_);
    std::uint64_t unreported_ GUARDED_BY(mutex_) = 0;
};

/// Whether an error speaks of the disk; a full one, or one that is closed, is not broken.
[[nodiscard]] bool is_media_error(const Error& error) noexcept;

}  // namespace mirror
