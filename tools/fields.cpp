// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fields.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "tools/terminal.hpp"

namespace mirror::tools {
namespace {

std::string local_in(WallTime time, const char* format) {
    // Not to_time_t: it counts nanoseconds on its way, and these end in the year 2262.
    const std::time_t seconds =
        std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
    std::tm parts{};
    ::localtime_r(&seconds, &parts);
    char text[64] = {};
    const std::size_t length = std::strftime(text, sizeof text, format, &parts);
    return std::string(text, length);
}

/// One or two words: an age is read at a glance, to the second only while it is short.
std::string format_age(std::chrono::microseconds age) {
    const auto seconds = std::max<std::int64_t>(age / std::chrono::seconds(1), 0);
    constexpr std::int64_t minute = 60;
    constexpr std::int64_t hour = 60 * minute;
    constexpr std::int64_t day = 24 * hour;
    if (seconds < minute) {
        return fmt::format("{} s", seconds);
    }
    if (seconds < hour) {
        return fmt::format("{} min", seconds / minute);
    }
    if (seconds < 2 * day) {
        return fmt::format("{} h {} min", seconds / hour, seconds % hour / minute);
    }
    return fmt::format("{} days", seconds / day);
}

}  // namespace

const Json& part_field(const Json& object, const char* key) {
    static const Json nothing;
    if (!object.is_object()) {
        return nothing;
    }
    const auto found = object.find(key);
    return found == object.end() ? nothing : *found;
}

std::string text_field(const Json& object, const char* key) {
    const Json& value = part_field(object, key);
    return value.is_string() ? printable(value.get_ref<const std::string&>()) : std::string();
}

std::optional<double> number_field(const Json& object, const char* key) {
    const Json& value = part_field(object, key);
    if (!value.is_number()) {
        return std::nullopt;
    }
    return value.get<double>();
}

std::optional<std::uint64_t> count_field(const Json& object, const char* key) {
    const Json& value = part_field(object, key);
    if (value.is_number_unsigned()) {
        return value.get<std::uint64_t>();
    }
    const std::optional<double> number = number_field(object, key);
    constexpr double limit = 9.2e18;
    if (!number || !(*number >= 0) || *number > limit) {
        return std::nullopt;
    }
    return static_cast<std::uint64_t>(*number);
}

std::optional<bool> bool_field(const Json& object, const char* key) {
    const Json& value = part_field(object, key);
    if (!value.is_boolean()) {
        return std::nullopt;
    }
    return value.get<bool>();
}

std::optional<WallTime> time_field(const Json& object, const char* key) {
    const Json& value = part_field(object, key);
    if (!value.is_string()) {
        return std::nullopt;
    }
    const Result<WallTime> time = parse_rfc3339(value.get_ref<const std::string&>());
    if (!time || *time == WallTime{}) {
        return std::nullopt;
    }
    return *time;
}

std::string format_seconds(double seconds) {
    constexpr double limit = 1e12;
    if (!(seconds >= 0) || seconds > limit) {
        return "unknown";
    }
    constexpr double to_whole_seconds = 10;
    constexpr double minute = 60;
    if (seconds >= to_whole_seconds && std::round(seconds) < minute) {
        return fmt::format("{:.0f} s", seconds);
    }
    const double shown = seconds < to_whole_seconds ? seconds : std::round(seconds);
    return format_duration(std::chrono::milliseconds(std::llround(shown * 1000)));
}

std::string format_when(WallTime time, WallTime now) {
    const auto age = now - time;
    const bool same_day = local_in(time, "%F") == local_in(now, "%F");
    return fmt::format("{} ({} ago)", local_in(time, same_day ? "%H:%M:%S" : "%F %H:%M"),
                       format_age(age));
}

std::string format_local(WallTime time) {
    return local_in(time, "%F %H:%M:%S");
}

}  // namespace mirror::tools
