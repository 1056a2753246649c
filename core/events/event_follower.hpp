// SPDX-License-Identifier: BSD-3-Clause
// Reads the event log on from a place that can be written down and found again, in another process
// and after rotations: for who must miss no event. It takes no lock, so it holds no recorder: only
// whole lines are handed out, and what a recorder takes back (a part of a line that found no space)
// was never handed out. One thread; owns the file that it reads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"

namespace mirror {

/// Behind a line. A file is known by its inode, which another one may get later, so the line is
/// looked at, too.
struct EventPosition {
    std::uint64_t inode = 0;  ///< 0: there was no file yet
    std::uint64_t offset = 0;
    std::uint64_t line_bytes = 0;  ///< of the line before it, with its end; 0: the file's start
    std::uint32_t mark = 0;        ///< that line's checksum

    friend bool operator==(const EventPosition&, const EventPosition&) = default;
};

class EventFollower {
  public:
    using Sink = std::function<void(std::string_view line, const EventPosition& end)>;

    /// `path` is that of EventLog. Reads from the oldest line that is there on.
    explicit EventFollower(std::string path) : path_(std::move(path)) {}

    /// What is there already is not handed out.
    [[nodiscard]] Result<void> go_to_end();
    /// False: that place is not there any more (rotated out, or the log is another one); it stays
    /// at the oldest line.
    [[nodiscard]] Result<bool> go_to(const EventPosition& position);
    /// What is there now, and was not handed out.
    [[nodiscard]] Result<void> read_new(const Sink& sink);
    [[nodiscard]] const EventPosition& position() const noexcept { return position_; }

  private:
    struct File {
        std::string path;
        std::uint64_t inode;
    };

    [[nodiscard]] std::vector<File> files() const;
    [[nodiscard]] Result<bool> open(const File& file);
    [[nodiscard]] Result<void> drain(const Sink& sink);
    void hand_out_lines(std::string_view pending, const Sink& sink);
    [[nodiscard]] bool has_line_before(const EventPosition& position) const;

    const std::string path_;
    Fd file_;
    EventPosition position_;  ///< in `file_`, behind the last whole line that was read
};

}  // namespace mirror
