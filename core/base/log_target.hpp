// SPDX-License-Identifier: BSD-3-Clause
// Where the lines of core/base/log.hpp go, for who can tell more there than a line. Any thread.
#pragma once

#include "core/base/log.hpp"

namespace mirror {

/// Whether stderr is the journal ($JOURNAL_STREAM, systemd.exec(5)); decided once, before stderr
/// becomes a StderrRelay's pipe.
[[nodiscard]] bool log_goes_to_journal() noexcept;
/// As syslog(3) has it.
[[nodiscard]] int journal_priority(LogLevel level) noexcept;

}  // namespace mirror
