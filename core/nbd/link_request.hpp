// SPDX-License-Identifier: BSD-3-Clause
// One thing that is asked of a link. A value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/units.hpp"

namespace mirror::nbd {

enum class Verb { read, write, zero, flush };

/// What a caller asks for. The buffers stay the caller's.
struct LinkRequest {
    Verb verb = Verb::flush;
    ByteRange range;
    std::byte* into = nullptr;        ///< read
    const std::byte* from = nullptr;  ///< write
    std::uint32_t flags = 0;          ///< command_flag
    bool is_watch = false;            ///< the link's own look after an idle peer
};

}  // namespace mirror::nbd
