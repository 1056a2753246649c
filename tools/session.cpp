// SPDX-License-Identifier: BSD-3-Clause
#include "tools/session.hpp"

#include <fmt/format.h>

#include "core/base/foreign_text.hpp"
#include "core/base/json.hpp"

namespace mirror::tools {

int report(const Error& error, const Options& options, World& world) {
    world.out.flush();
    world.err << fmt::format("mirrorctl: {}\n", printable(error.text()));
    if (options.json) {
        print_json({{"ok", false},
                    {"error",
                     {{"kind", to_string(error.kind)},
                      {"message", error.message},
                      {"remedy", error.remedy}}}},
                   world);
    }
    const bool unknown = error.kind == ErrorKind::unreachable || error.kind == ErrorKind::timed_out;
    return unknown ? exit_unknown : exit_refused;
}

void print_json(const Json& answer, World& world) {
    Json document = answer;
    if (document.is_object() && !document.contains("schema")) {
        document["schema"] = 1;
    }
    constexpr int indent = 2;
    world.out << json_without_controls(
                     document.dump(indent, ' ', false, Json::error_handler_t::replace))
              << '\n';
}

}  // namespace mirror::tools
