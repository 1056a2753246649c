// SPDX-License-Identifier: BSD-3-Clause
// Every mistake of a configuration in one run: a person who corrects a file wants to do it once.
// Asked by mirrorctl check, mirrorctl init, and by mirrord at its start and at a reload; who only
// needs the configuration calls load_config(), whose error is the first mistake with the number of
// the others. Values; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/config/config.hpp"

namespace mirror {

struct Mistake {
    std::size_t line = 0;  ///< 0: of the file as a whole
    std::string key;       ///< "volume.r0.size"; empty: of the file as a whole
    Error error;           ///< "FILE:LINE: KEY: REASON"; its remedy is what would be accepted
};
/// In the order of the file; what is about the file as a whole comes last.
using Mistakes = std::vector<Mistake>;

[[nodiscard]] tl::expected<Config, Mistakes> read_config(const std::string& text,
                                                         const std::string& path);
/// The same of a file, which must be trusted: see load_config().
[[nodiscard]] tl::expected<Config, Mistakes> read_config_file(const std::string& path);

/// The first one, with the number of the others. `mistakes` has at least one.
[[nodiscard]] Error as_one_error(const Mistakes& mistakes);

}  // namespace mirror
