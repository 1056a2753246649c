// SPDX-License-Identifier: BSD-3-Clause
// Makes an undo file. Until finish() has returned there is only a file of another name
// ("….part"), which nobody takes for an undo; afterwards the whole of it is durable, its name in
// the folder included. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/undo/undo_format.hpp"

namespace mirror {

/// The calls that make a file durable under its name. They return as fsync(2) and rename(2) do;
/// other ones are for tests, which look at the order.
struct DurableCalls {
    std::function<int(int fd)> sync;
    std::function<int(const char* from, const char* to)> rename;

    [[nodiscard]] static DurableCalls of_the_system();
};

class UndoWriter {
  public:
    /// `refused` when `path` exists already.
    [[nodiscard]] static Result<UndoWriter> create(
        const std::string& path, UndoInfo info, DurableCalls calls = DurableCalls::of_the_system());
    UndoWriter(UndoWriter&& other) noexcept = default;
    UndoWriter& operator=(UndoWriter&&) = delete;
    UndoWriter(const UndoWriter&) = delete;
    UndoWriter& operator=(const UndoWriter&) = delete;
    ~UndoWriter();  ///< removes what was not finished

    /// Saves these bytes of the volume. Ranges come in ascending order; any length.
    [[nodiscard]] Result<void> add(std::uint64_t offset, std::span<const std::byte> data);
    [[nodiscard]] Result<void> finish();

    [[nodiscard]] std::uint64_t saved_bytes() const noexcept { return saved_; }

    /// The most that a file with so many bytes in so many runs takes.
    [[nodiscard]] static std::uint64_t space_for(std::uint64_t bytes, std::uint64_t runs) noexcept;

  private:
    UndoWriter(Fd fd, std::string path, UndoInfo info, DurableCalls calls)
        : fd_(std::move(fd)),
          path_(std::move(path)),
          info_(std::move(info)),
          calls_(std::move(calls)) {}
    [[nodiscard]] std::string part() const { return path_ + ".part"; }
    [[nodiscard]] Result<void> put(std::span<const std::byte> data, std::uint64_t at) const;
    [[nodiscard]] Result<void> publish() const;
    [[nodiscard]] Result<void> sync_folder() const;

    Fd fd_;
    std::string path_;
    UndoInfo info_;
    DurableCalls calls_;
    std::vector<UndoPiece> pieces_;
    std::uint64_t end_ = undo::header_size;
    std::uint64_t saved_ = 0;
};

}  // namespace mirror
