// SPDX-License-Identifier: BSD-3-Clause
// `demote-all`: every volume that is active here, for the machine's shutdown. Called from a
// request's thread.
#pragma once

#include "daemon/demote.hpp"
#include "daemon/keepers.hpp"

namespace mirror::daemon {

/// Goes on where one fails; then the error names each that is still active. Answers `text`,
/// `seconds` and `volumes` (those that were demoted); with dry_run `would`.
[[nodiscard]] Result<Json> demote_all(const Keepers& keepers, const Context& context,
                                      const DemoteOptions& options);

}  // namespace mirror::daemon
