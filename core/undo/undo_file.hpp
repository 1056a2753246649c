// SPDX-License-Identifier: BSD-3-Clause
// Reads an undo file. What it hands out was checked against its checksum a moment ago; damage is an
// error that names the bytes of the volume, never wrong data. Any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/undo/undo_format.hpp"

namespace mirror {

class UndoFile {
  public:
    /// `corrupt` when its header or map is damaged, or it is too short or too long.
    [[nodiscard]] static Result<UndoFile> open(const std::string& path);

    [[nodiscard]] const UndoInfo& info() const noexcept { return header_.info; }
    [[nodiscard]] const std::vector<UndoPiece>& pieces() const noexcept { return pieces_; }
    [[nodiscard]] std::uint64_t saved_bytes() const noexcept { return header_.saved_bytes; }
    /// Runs of the volume that are saved without a gap.
    [[nodiscard]] std::uint64_t runs() const noexcept;

    /// `into` has the piece's length. `corrupt` when the data is not what was saved.
    [[nodiscard]] Result<void> read(const UndoPiece& piece, std::span<std::byte> into) const;

  private:
    UndoFile(Fd fd, std::string path, undo::Header header, std::vector<UndoPiece> pieces)
        : fd_(std::move(fd)),
          path_(std::move(path)),
          header_(std::move(header)),
          pieces_(std::move(pieces)) {}

    Fd fd_;
    std::string path_;
    undo::Header header_;
    std::vector<UndoPiece> pieces_;
};

}  // namespace mirror
