// SPDX-License-Identifier: BSD-3-Clause
// What addresses a host name has on this machine. A name may have several, and mean another
// machine's or none to others than to whoever asks: so who listens listens on all of them, and what
// is logged are the numbers. May wait for a name server; any thread.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.hpp"

namespace mirror::nbd {

/// As numbers, each once, never empty.
[[nodiscard]] Result<std::vector<std::string>> look_up(const std::string& host);

/// For a number: whether only programs of this machine reach it.
[[nodiscard]] bool is_loopback(const std::string& number);

}  // namespace mirror::nbd
