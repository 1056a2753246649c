// SPDX-License-Identifier: BSD-3-Clause
// The progress of a resync as text: a bar for a terminal, and for a pipe one line at each change
// of state and each tenth. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/fields.hpp"

namespace mirror::tools {

struct Progress {
    std::uint64_t done_bytes = 0;
    std::uint64_t total_bytes = 0;
    std::optional<double> bytes_per_second;
    std::optional<double> eta_seconds;

    /// 0 to 100, never more; 100 only when all is done.
    [[nodiscard]] unsigned percent() const noexcept;
};

/// The resync of a volume's object in the status, summed up over its peers.
[[nodiscard]] std::optional<Progress> resync_of(const Json& volume);

/// "45 %, 4.5 GiB of 10 GiB, 110 MiB/s, 50 s left".
[[nodiscard]] std::string progress_words(const Progress& progress);
/// "[=========>          ] " and the words; fits `width` columns where that is possible.
[[nodiscard]] std::string progress_bar(const Progress& progress, std::size_t width);

/// Decides for one volume when a pipe gets a line.
class ChangeLines {
  public:
    /// The line to print for this look at the volume, or nothing when it would repeat the last.
    [[nodiscard]] std::optional<std::string> next(const Json& volume);

  private:
    std::string state_;
    std::string why_;
    std::optional<unsigned> tenth_;
};

}  // namespace mirror::tools
