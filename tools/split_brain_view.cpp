// SPDX-License-Identifier: BSD-3-Clause
#include "tools/split_brain_view.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "tools/table.hpp"

namespace mirror::tools {
namespace {

/// Clocks of one machine room; what is less says nothing about the order of events.
constexpr double clocks_agree_seconds = 1.0;
constexpr std::size_t generations_shown = 5;

std::string when_or_unknown(const Json& side, const char* key, const ViewContext& context) {
    const auto time = time_field(side, key);
    return time ? format_when(*time, context.now) : "unknown";
}

std::string bytes_or_unknown(const Json& side, const char* key) {
    const auto bytes = count_field(side, key);
    return bytes ? format_size(*bytes) : "unknown";
}

/// "12:30:05 (3 min ago): alpha was promoted with --force", the oldest first.
std::vector<std::string> lineage_words(const Json& side, const ViewContext& context) {
    std::vector<std::string> words;
    for (const Json& generation : part_field(side, "lineage")) {
        words.push_back(fmt::format("{}: {}", when_or_unknown(generation, "began_at", context),
                                    text_field(generation, "words")));
        if (words.size() == generations_shown) {
            words.emplace_back("(earlier ones left out)");
            break;
        }
    }
    std::reverse(words.begin(), words.end());
    return words;
}

std::string clock_words(const Json& evidence) {
    const auto skew = number_field(evidence, "clock_skew_seconds");
    if (!skew) {
        return "unknown";
    }
    const double size = std::abs(*skew);
    if (size < clocks_agree_seconds) {
        return "the same";
    }
    return fmt::format("{} {}", format_seconds(size), *skew > 0 ? "ahead" : "behind");
}

void add_lineage(std::vector<Row>& rows, const Json& here, const Json& there,
                 const ViewContext& context) {
    const auto left = lineage_words(here, context);
    const auto right = lineage_words(there, context);
    for (std::size_t i = 0; i < std::max(left.size(), right.size()); ++i) {
        rows.push_back({{i == 0 ? "since then" : "", Style::dim},
                        {i < left.size() ? left[i] : ""},
                        {i < right.size() ? right[i] : ""}});
    }
}

std::string ancestor_words(const Json& ancestor, const ViewContext& context) {
    if (!ancestor.is_object()) {
        return "the two have no generation in common";
    }
    return fmt::format("in common until generation {}, begun {}: {}",
                       text_field(ancestor, "generation").substr(0, 8),
                       when_or_unknown(ancestor, "began_at", context),
                       text_field(ancestor, "words"));
}

std::string format_evidence(const Json& evidence, const ViewContext& context) {
    const Json& here = part_field(evidence, "here");
    const Json& there = part_field(evidence, "there");
    const auto role = [](const Json& side) {
        return fmt::format("{}, {}", text_field(side, "role"), text_field(side, "replica_state"));
    };
    std::vector<Row> rows{{{""},
                           {text_field(here, "node") + " (this node)", Style::bold},
                           {text_field(there, "node"), Style::bold}},
                          {{"is", Style::dim}, {role(here)}, {role(there)}}};
    add_lineage(rows, here, there, context);
    rows.push_back({{"broke", Style::dim},
                    {when_or_unknown(here, "break_at", context)},
                    {when_or_unknown(there, "break_at", context)}});
    rows.push_back({{"last write", Style::dim},
                    {when_or_unknown(here, "last_write_at", context)},
                    {when_or_unknown(there, "last_write_at", context)}});
    rows.push_back({{"changed", Style::dim},
                    {bytes_or_unknown(here, "changed_bytes") + " only here"},
                    {bytes_or_unknown(there, "changed_bytes") + " only there"}});
    rows.push_back({{"to compare", Style::dim},
                    {bytes_or_unknown(here, "may_differ_bytes")},
                    {bytes_or_unknown(there, "may_differ_bytes")}});
    rows.push_back({{"clock", Style::dim}, {"this one"}, {clock_words(evidence)}});
    return fmt::format("  {}\n", ancestor_words(part_field(evidence, "ancestor"), context)) +
           format_table(rows, context.terminal, "    ");
}

}  // namespace

std::string split_brain_lines(const Json& volume, const ViewContext& context) {
    for (const Json& peer : part_field(volume, "peers")) {
        const Json& evidence = part_field(peer, "split_brain");
        if (evidence.is_object()) {
            return format_evidence(evidence, context);
        }
    }
    return {};
}

std::string undo_words(const Json& volume, const ViewContext& context) {
    const Json& entries = part_field(volume, "undo");
    if (!entries.is_array() || entries.empty()) {
        return {};
    }
    std::uint64_t bytes = 0;
    for (const Json& entry : entries) {
        bytes += count_field(entry, "saved_bytes").value_or(0);
    }
    const Json& newest = entries.back();
    return fmt::format(
        "{} undo file{} of resolved split brains here, {} saved, the last {}: "
        "mirrorctl undo {} --list",
        entries.size(), entries.size() == 1 ? "" : "s", format_size(bytes),
        when_or_unknown(newest, "made_at", context), text_field(volume, "name"));
}

}  // namespace mirror::tools
