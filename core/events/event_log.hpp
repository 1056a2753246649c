// SPDX-License-Identifier: BSD-3-Clause
// STATE_DIR/events.jsonl: one JSON object a line, append-only, for people and for monitoring.
// mirrord and the engines of a node append to the same file: a line is one O_APPEND write under
// flock, so lines never mix; before it exceeds `rotate_at` bytes the file becomes events.jsonl.1
// (… .4).
// Thread-safe. A log that cannot be written never stops the mirror: it says so on stderr. But
// record() waits for the disk of STATE_DIR, and for other recorders: never call it with a mutex, a
// range or a turn that others wait for, and only after what it tells of was done.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"
#include "core/base/sync.hpp"
#include "core/base/units.hpp"

namespace mirror {

enum class Severity { info, warning, error };
[[nodiscard]] std::string_view to_string(Severity severity) noexcept;

/// Stable ids; the list with meanings is in mirrordisk-protocol(7).
struct Event {
    std::string id;  ///< "mirror-break", "promoted", …
    Severity severity = Severity::info;
    std::string volume;  ///< empty: the node itself
    std::string text;    ///< what happened, a sentence
    std::string cause{};
    std::string remedy{};
};

class EventLog {
  public:
    static constexpr std::uint64_t default_rotate_at = 4 * MiB;

    EventLog(std::string path, std::string node, const Clock& clock,
             std::uint64_t rotate_at = default_rotate_at);

    /// Appends, and logs the line on stderr too.
    void record(const Event& event) noexcept;
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

  private:
    [[nodiscard]] Result<void> append(const std::string& line);

    const std::string path_;
    const std::string node_;
    const Clock& clock_;
    const std::uint64_t rotate_at_;
    /// One append at a time in this process, over its file I/O: who waits for it would wait for the
    /// same disk.
    Mutex mutex_;
};

}  // namespace mirror
