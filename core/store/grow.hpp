// SPDX-License-Identifier: BSD-3-Clause
// A backing that becomes longer under a volume that does not know it yet: mirrord does this before
// the metadata say the new size, while the engine or the replica uses the part before `from`.
// One caller at a time for a backing.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/base/error.hpp"

namespace mirror {

/// Afterwards the backing has at least `to` bytes, and the bytes from `from` to `to` read as
/// zeroes, durably: what a resize adds must be equal on both replicas. A file is made longer, a
/// device must be long enough. `stop` is asked between the steps, each of which takes a disk that
/// has to write the zeroes a moment; then the answer is `busy`, and what was done does no harm.
[[nodiscard]] Result<void> grow_backing(const std::string& path, std::uint64_t from,
                                        std::uint64_t to, const std::function<bool()>& stop);

}  // namespace mirror
