// SPDX-License-Identifier: BSD-3-Clause
// The undo files of one volume on this node: STATE_DIR/VOLUME/undo-N. N is a file's number for
// good; numbers of dropped files come up again only when they were the highest. Any thread; who
// makes one holds the volume's Operation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/undo/undo_file.hpp"

namespace mirror {

struct UndoEntry {
    std::uint64_t id = 0;
    std::string path;
    std::uint64_t file_bytes = 0;  ///< disk space that it takes
    std::optional<UndoInfo> info;  ///< nothing when it can't be read
    std::uint64_t saved_bytes = 0;
    std::uint64_t runs = 0;
    std::string problem;  ///< why it can't be read
};

class UndoFolder {
  public:
    UndoFolder(const std::string& state_dir, const std::string& volume)
        : path_(state_dir + "/" + volume) {}

    /// In the order of their numbers. A folder that is not there has none.
    [[nodiscard]] Result<std::vector<UndoEntry>> list() const;
    [[nodiscard]] std::string path_of(std::uint64_t id) const;
    [[nodiscard]] Result<std::uint64_t> next_id() const;
    /// Removes it, durably. `not_found` when there is none of that number.
    [[nodiscard]] Result<void> drop(std::uint64_t id) const;
    /// Removes what a crash left half written.
    void remove_unfinished() const;
    /// Bytes that the filesystem can still take.
    [[nodiscard]] Result<std::uint64_t> free_bytes() const;

  private:
    [[nodiscard]] Result<std::vector<std::string>> names() const;

    const std::string path_;
};

}  // namespace mirror
