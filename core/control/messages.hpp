// SPDX-License-Identifier: BSD-3-Clause
// What travels in control messages, as JSON and back, with every field checked: a message comes
// from another machine, perhaps of another version, perhaps from nobody who means well. Errors are
// of kind invalid and name the field. Pure; any thread.
//
// Ids are 32 hexadecimal digits, states and reasons their words, times RFC 3339 in UTC to the
// millisecond (so a time that has travelled may be up to a millisecond early; nothing compares
// them). A time that is unknown is null.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "core/base/clock.hpp"
#include "core/base/error.hpp"
#include "core/base/id.hpp"
#include "core/lineage/generation.hpp"
#include "core/lineage/summary.hpp"

namespace mirror::control {

using Json = nlohmann::json;

/// Texts in messages are names, paths and sentences.
inline constexpr std::size_t max_text = 4096;

// Fields of a request. `json` may be anything; what is no object has no fields. An optional field
// may be absent or null.
[[nodiscard]] Result<std::string> string_field(const Json& json, std::string_view name);
[[nodiscard]] Result<std::optional<std::string>> optional_string_field(const Json& json,
                                                                       std::string_view name);
[[nodiscard]] Result<bool> bool_field(const Json& json, std::string_view name);
[[nodiscard]] Result<bool> bool_field_or(const Json& json, std::string_view name, bool otherwise);
[[nodiscard]] Result<std::uint64_t> uint_field(const Json& json, std::string_view name);
/// Not larger than a step can be (core/lineage/steps.hpp).
[[nodiscard]] Result<std::uint64_t> step_field(const Json& json, std::string_view name);
[[nodiscard]] Result<std::optional<std::uint64_t>> optional_uint_field(const Json& json,
                                                                       std::string_view name);
/// The pointer is into `json`.
[[nodiscard]] Result<const Json*> object_field(const Json& json, std::string_view name);
[[nodiscard]] Result<const Json*> array_field(const Json& json, std::string_view name);
/// The epoch for null.
[[nodiscard]] Result<WallTime> time_field(const Json& json, std::string_view name);

template <typename IdType>
[[nodiscard]] Result<IdType> id_field(const Json& json, std::string_view name) {
    return string_field(json, name).and_then([&](const std::string& text) {
        return parse_id<IdType>(text).map_error(
            [&](const Error& error) { return error.within(name); });
    });
}

/// Null for the epoch.
[[nodiscard]] Json encode(WallTime time);

[[nodiscard]] Json encode(const Generation& generation);
[[nodiscard]] Result<Generation> decode_generation(const Json& json);

/// An array, newest first.
[[nodiscard]] Json encode(const Lineage& lineage);
[[nodiscard]] Result<Lineage> decode_lineage(const Json& json);

[[nodiscard]] Json encode(const ReplicaSummary& summary);
[[nodiscard]] Result<ReplicaSummary> decode_summary(const Json& json);

}  // namespace mirror::control
