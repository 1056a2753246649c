// SPDX-License-Identifier: BSD-3-Clause
// Reading an answer's fields without trusting it: a field that is missing, null or of another
// type (an older or newer daemon) is "nothing", never an exception. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "core/base/clock.hpp"

namespace mirror::tools {

using Json = nlohmann::json;

/// A string, made printable; empty when there is none.
[[nodiscard]] std::string text_field(const Json& object, const char* key);
[[nodiscard]] std::optional<double> number_field(const Json& object, const char* key);
/// A number of bytes or pieces; negative numbers are nothing.
[[nodiscard]] std::optional<std::uint64_t> count_field(const Json& object, const char* key);
[[nodiscard]] std::optional<bool> bool_field(const Json& object, const char* key);
[[nodiscard]] std::optional<WallTime> time_field(const Json& object, const char* key);
/// The object or array under that key; a null value when there is none.
[[nodiscard]] const Json& part_field(const Json& object, const char* key);

/// "50 s", "2 min 5 s": from seconds as JSON has them.
[[nodiscard]] std::string format_seconds(double seconds);
/// Local time for a person: "12:30:05 (3 min ago)", with the date when it was another day.
[[nodiscard]] std::string format_when(WallTime time, WallTime now);
/// Local time with the date: "2026-03-01 12:30:05".
[[nodiscard]] std::string format_local(WallTime time);

}  // namespace mirror::tools
