// SPDX-License-Identifier: BSD-3-Clause
// Reading STATE_DIR/events.jsonl with its rotated files (.4 … .1, oldest first), and following it
// across rotations. Reads without a lock: a line is one append, so only whole lines are handed
// out. Main thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"

namespace mirror::tools {

class EventsFile {
  public:
    static constexpr int rotated_files = 4;
    using LineSink = std::function<void(std::string_view line)>;

    explicit EventsFile(std::string path) : path_(std::move(path)) {}

    /// All that is there: rotated files, then the current one. No file is no error.
    [[nodiscard]] Result<void> read_all(const LineSink& sink);
    /// What was appended since the last call, also when the file was rotated meanwhile.
    [[nodiscard]] Result<void> read_new(const LineSink& sink);

  private:
    [[nodiscard]] Result<bool> open_current();
    [[nodiscard]] Result<void> drain(const Fd& fd, std::string& pending, const LineSink& sink);
    [[nodiscard]] Result<void> read_rotated(int number, const LineSink& sink);
    [[nodiscard]] bool is_rotated_away() const;

    const std::string path_;
    Fd current_;
    std::string pending_;  ///< the start of a line whose end was not there yet
};

}  // namespace mirror::tools
