// SPDX-License-Identifier: BSD-3-Clause
// A replica's media errors as status shows them. Pure; any thread.
#pragma once

#include "core/control/mailbox.hpp"
#include "core/store/media_log.hpp"

namespace mirror::control {

/// `replica.media` of the status: counters since the start, and the last ranges, newest first.
[[nodiscard]] Json encode(const MediaLog::View& media);

}  // namespace mirror::control
