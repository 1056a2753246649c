// SPDX-License-Identifier: BSD-3-Clause
#include "tools/events_view.hpp"

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"

namespace mirror::tools {
namespace {

Style style_of(const std::string& severity) {
    if (severity == "error") {
        return Style::bad;
    }
    return severity == "warning" ? Style::warning : Style::plain;
}

/// "uid 0", or "beta (unproven) at 10.0.0.2:4711, key cluster, for uid 1000 there".
std::string asker_words(const Json& asker) {
    const auto uid = count_field(asker, "uid");
    if (text_field(asker, "kind") == "local") {
        return uid ? fmt::format("uid {}", *uid) : "an unknown user of this machine";
    }
    const std::string address = text_field(asker, "address");
    if (address.empty()) {
        return {};
    }
    const std::string node = text_field(asker, "node");
    const std::string key = text_field(asker, "key");
    const auto for_uid = count_field(asker, "for_uid");
    return fmt::format(
        "{}{} at {}{}{}", node.empty() ? "a node" : node,
        node.empty() || bool_field(asker, "proven").value_or(false) ? "" : " (unproven)", address,
        key.empty() ? "" : ", key " + key,
        for_uid ? fmt::format(", for uid {} there", *for_uid) : "");
}

}  // namespace

bool EventFilter::wants(const Json& event) const {
    if (!volume.empty() && text_field(event, "volume") != volume) {
        return false;
    }
    if (!since) {
        return true;
    }
    const auto time = time_field(event, "time");
    return time && *time >= *since;
}

Result<WallTime> parse_since(std::string_view text, WallTime now) {
    if (const auto age = parse_duration(text)) {
        return now - *age;
    }
    if (const auto time = parse_rfc3339(text)) {
        return *time;
    }
    return Failure(Error{ErrorKind::invalid, fmt::format("--since {} is not a time", text),
                         "give an age (30min, 12h) or a time such as 2026-03-01T12:30:05Z"});
}

std::string format_event(const Json& event, const Terminal& terminal) {
    const std::string severity = text_field(event, "severity");
    const std::string volume = text_field(event, "volume");
    const auto time = time_field(event, "time");
    std::string text = fmt::format(
        "{}  {}  {}  {}  {}\n", time ? format_local(*time) : std::string(19, '?'),
        terminal.paint(style_of(severity), fmt::format("{:<7}", severity)),
        volume.empty() ? "-" : volume, terminal.paint(Style::bold, text_field(event, "id")),
        text_field(event, "text"));
    for (const char* part : {"cause", "remedy"}) {
        const std::string words = text_field(event, part);
        if (!words.empty()) {
            text += fmt::format("{:21}{}: {}\n", "", part, words);
        }
    }
    if (const std::string asker = asker_words(part_field(event, "asked_by")); !asker.empty()) {
        text += fmt::format("{:21}asked by: {}\n", "", asker);
    }
    return text;
}

}  // namespace mirror::tools
