// SPDX-License-Identifier: BSD-3-Clause
#include "tools/session.hpp"

#include <fmt/format.h>

#include "core/base/foreign_text.hpp"
#include "core/base/json.hpp"

namespace mirror::tools {

namespace {

Json encode(const Error& error) {
    return {{"kind", to_string(error.kind)}, {"message", error.message}, {"remedy", error.remedy}};
}

Json encode(const Mistake& mistake) {
    return {{"line", mistake.line == 0 ? Json() : Json(mistake.line)},
            {"key", mistake.key},
            {"message", mistake.error.message},
            {"remedy", mistake.error.remedy}};
}

}  // namespace

int report_mistakes(const Mistakes& mistakes, const std::string& path, const Options& options,
                    World& world) {
    world.out.flush();
    for (const Mistake& mistake : mistakes) {
        world.err << fmt::format("mirrorctl: {}\n", printable(mistake.error.text()));
    }
    if (mistakes.size() > 1) {
        world.err << fmt::format("mirrorctl: {} has {} mistakes\n", printable(path),
                                 mistakes.size());
    }
    if (options.json) {
        Json list = Json::array();
        for (const Mistake& mistake : mistakes) {
            list.push_back(encode(mistake));
        }
        print_json({{"ok", false},
                    {"error", encode(as_one_error(mistakes))},
                    {"mistakes", std::move(list)}},
                   world);
    }
    return exit_refused;
}

std::chrono::milliseconds patience_of(const Options& options,
                                      std::chrono::milliseconds usual) noexcept {
    constexpr std::chrono::hours longest{24};
    if (!options.timeout_seconds) {
        return usual;
    }
    const std::chrono::duration<double> given(*options.timeout_seconds);
    return given < longest ? std::chrono::ceil<std::chrono::milliseconds>(given) : longest;
}

int report(const Error& error, const Options& options, World& world) {
    world.out.flush();
    world.err << fmt::format("mirrorctl: {}\n", printable(error.text()));
    if (options.json) {
        print_json({{"ok", false}, {"error", encode(error)}}, world);
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
