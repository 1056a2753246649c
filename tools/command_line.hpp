// SPDX-License-Identifier: BSD-3-Clause
// The words of mirrorctl's command line. The man page mirrorctl(8) is held against them by
// tests/docs/check_help.py.
#pragma once

#include <iosfwd>
#include <variant>

#include "tools/options.hpp"

namespace mirror::tools {

/// The options, or the exit code when all is said already (--help, --version, a usage error).
[[nodiscard]] std::variant<Options, int> parse_command_line(int argc, const char* const* argv,
                                                            std::ostream& out, std::ostream& err);

}  // namespace mirror::tools
