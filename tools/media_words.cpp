// SPDX-License-Identifier: BSD-3-Clause
#include "tools/media_words.hpp"

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"

namespace mirror::tools {
namespace {

std::string count_words(const Json& media, const char* field, const char* one, const char* many) {
    const auto count = count_field(media, field).value_or(0);
    return count == 0 ? std::string() : fmt::format(", {} {}", count, count == 1 ? one : many);
}

std::string last_words(const Json& range, WallTime now) {
    std::string text = text_field(range, "operation");
    const auto length = count_field(range, "length_bytes");
    const auto offset = count_field(range, "offset_bytes");
    if (length && offset) {
        text += fmt::format(" of {} at {}", format_size(*length), format_size(*offset));
    }
    text += ", " + text_field(range, "action");
    if (const auto last = time_field(range, "last")) {
        text += ", " + format_when(*last, now);
    }
    return text;
}

}  // namespace

std::string media_words(const Json& replica, WallTime now) {
    const Json& media = part_field(replica, "media");
    std::string text = count_words(media, "read_errors", "read error", "read errors") +
                       count_words(media, "write_errors", "write error", "write errors") +
                       count_words(media, "timeouts", "without an answer", "without an answer") +
                       count_words(media, "repaired", "repaired", "repaired");
    if (text.empty()) {
        return text;
    }
    text.erase(0, 2);
    const Json& ranges = part_field(media, "ranges");
    return ranges.empty() ? text
                          : fmt::format("{}; last: {}", text, last_words(ranges.front(), now));
}

}  // namespace mirror::tools
