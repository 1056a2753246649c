// SPDX-License-Identifier: BSD-3-Clause
#include "tools/gaps_view.hpp"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "core/base/json.hpp"

namespace mirror::tools {
namespace {

/// The ranges are in the volume's reason.
std::string words_of(const Json& gaps, WallTime now) {
    std::string text = text_field(gaps, "cause");
    if (const auto next = time_field(gaps, "next_try_at")) {
        const std::chrono::duration<double> left = std::max(*next - now, {});
        text += fmt::format("{}read again in {}", text.empty() ? "" : "; ",
                            format_seconds(left.count()));
    }
    return text;
}

}  // namespace

bool has_gaps(const Json& volume) {
    for (const Json& peer : part_field(volume, "peers")) {
        if (part_field(peer, "incomplete").is_object()) {
            return true;
        }
    }
    return false;
}

std::vector<std::string> gaps_words(const Json& volume, WallTime now) {
    std::vector<std::string> lines;
    for (const Json& peer : part_field(volume, "peers")) {
        if (const Json& gaps = part_field(peer, "incomplete"); gaps.is_object()) {
            lines.push_back(words_of(gaps, now));
        }
    }
    return lines;
}

}  // namespace mirror::tools
