// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/messages.hpp"

#include <utility>
#include <vector>

#include "core/base/json.hpp"
#include "core/config/config.hpp"

namespace mirror::control {
namespace {

/// Nothing when the field is absent or null.
const Json* find(const Json& json, std::string_view name) {
    if (!json.is_object()) {
        return nullptr;
    }
    const auto field = json.find(name);
    return field == json.end() || field->is_null() ? nullptr : &*field;
}

Result<const Json*> need(const Json& json, std::string_view name) {
    const Json* field = find(json, name);
    if (field == nullptr) {
        return fail(ErrorKind::invalid, "'{}' is missing", name);
    }
    return field;
}

Failure wrong_type(std::string_view name, std::string_view wanted) {
    return fail(ErrorKind::invalid, "'{}' is not {}", name, wanted);
}

Result<std::string> as_string(const Json& field, std::string_view name) {
    if (!field.is_string()) {
        return wrong_type(name, "a text");
    }
    const auto& text = field.get_ref<const std::string&>();
    if (text.size() > max_text) {
        return fail(ErrorKind::invalid, "'{}' is longer than {} bytes", name, max_text);
    }
    // The system's interfaces would take only what is before it.
    if (text.find('\0') != std::string::npos) {
        return fail(ErrorKind::invalid, "'{}' contains a zero byte", name);
    }
    return text;
}

Result<bool> as_bool(const Json& field, std::string_view name) {
    if (!field.is_boolean()) {
        return wrong_type(name, "true or false");
    }
    return field.get<bool>();
}

Result<std::uint64_t> as_uint(const Json& field, std::string_view name) {
    // nlohmann keeps what was made from an int as signed, also when it is not negative.
    if (!field.is_number_integer() ||
        (!field.is_number_unsigned() && field.get<std::int64_t>() < 0)) {
        return wrong_type(name, "a whole number from 0 up");
    }
    return field.get<std::uint64_t>();
}

/// Gets field after field and keeps the first error, so that decoding reads as a list of fields.
class Reader {
  public:
    explicit Reader(const Json& json) : json_(json) {
        if (!json.is_object()) {
            error_ = Error{ErrorKind::invalid, "not an object"};
        }
    }

    std::string text(std::string_view name) { return take(string_field(json_, name)); }
    bool flag(std::string_view name) { return take(bool_field(json_, name)); }
    std::uint64_t number(std::string_view name) { return take(uint_field(json_, name)); }
    std::uint64_t step(std::string_view name) { return take(step_field(json_, name)); }
    WallTime time(std::string_view name) { return take(time_field(json_, name)); }

    template <typename IdType>
    IdType id(std::string_view name) {
        return take(id_field<IdType>(json_, name));
    }
    std::string node(std::string_view name) {
        return take(
            string_field(json_, name).and_then([&](std::string text) -> Result<std::string> {
                if (!is_valid_name(text)) {
                    return wrong_type(name, "a node's name");
                }
                return text;
            }));
    }
    /// A field that `parse` understands: a word, or something nested.
    template <typename T>
    T parsed(std::string_view name, Result<T> (*parse)(std::string_view)) {
        return take(string_field(json_, name).and_then([&](const std::string& word) {
            return parse(word).map_error([&](const Error& error) { return error.within(name); });
        }));
    }
    template <typename T>
    T nested(std::string_view name, Result<T> (*decode)(const Json&)) {
        return take(need(json_, name).and_then([&](const Json* field) {
            return decode(*field).map_error([&](const Error& error) { return error.within(name); });
        }));
    }

    template <typename T>
    Result<T> finish(T value) {
        if (error_.has_value()) {
            return Failure(std::move(*error_));
        }
        return value;
    }

  private:
    template <typename T>
    T take(Result<T> result) {
        if (result) {
            return std::move(*result);
        }
        if (!error_.has_value()) {
            error_ = std::move(result.error());
        }
        return T{};
    }

    const Json& json_;
    std::optional<Error> error_;
};

}  // namespace

Result<std::string> string_field(const Json& json, std::string_view name) {
    return need(json, name).and_then([&](const Json* field) { return as_string(*field, name); });
}

Result<std::optional<std::string>> optional_string_field(const Json& json, std::string_view name) {
    const Json* field = find(json, name);
    if (field == nullptr) {
        return std::optional<std::string>{};
    }
    return as_string(*field, name).map([](std::string text) {
        return std::optional(std::move(text));
    });
}

Result<bool> bool_field(const Json& json, std::string_view name) {
    return need(json, name).and_then([&](const Json* field) { return as_bool(*field, name); });
}

Result<bool> bool_field_or(const Json& json, std::string_view name, bool otherwise) {
    const Json* field = find(json, name);
    return field == nullptr ? Result<bool>(otherwise) : as_bool(*field, name);
}

Result<std::uint64_t> uint_field(const Json& json, std::string_view name) {
    return need(json, name).and_then([&](const Json* field) { return as_uint(*field, name); });
}

Result<std::uint64_t> step_field(const Json& json, std::string_view name) {
    return uint_field(json, name).and_then([&](std::uint64_t step) -> Result<std::uint64_t> {
        if (step > largest_step) {
            return fail(ErrorKind::invalid, "'{}' is not a valid step: larger than {}", name,
                        largest_step);
        }
        return step;
    });
}

Result<std::optional<std::uint64_t>> optional_uint_field(const Json& json, std::string_view name) {
    const Json* field = find(json, name);
    if (field == nullptr) {
        return std::optional<std::uint64_t>{};
    }
    return as_uint(*field, name).map([](std::uint64_t number) { return std::optional(number); });
}

Result<const Json*> object_field(const Json& json, std::string_view name) {
    Result<const Json*> field = need(json, name);
    if (field && !(*field)->is_object()) {
        return wrong_type(name, "an object");
    }
    return field;
}

Result<const Json*> array_field(const Json& json, std::string_view name) {
    Result<const Json*> field = need(json, name);
    if (field && !(*field)->is_array()) {
        return wrong_type(name, "an array");
    }
    return field;
}

Result<WallTime> time_field(const Json& json, std::string_view name) {
    if (json.is_object() && json.contains(name) && json.find(name)->is_null()) {
        return WallTime{};
    }
    return string_field(json, name).and_then([&](const std::string& text) {
        return parse_rfc3339(text).map_error(
            [&](const Error& error) { return error.within(name); });
    });
}

Json encode(WallTime time) {
    return time == WallTime{} ? Json(nullptr) : Json(format_rfc3339(time));
}

Json encode(const Generation& generation) {
    Json json = {
        {"id", to_string(generation.id)},         {"parent", to_string(generation.parent)},
        {"began", encode(generation.began)},      {"node", generation.node},
        {"reason", to_string(generation.reason)},
    };
    if (generation.from_step != 0) {
        json["from_step"] = generation.from_step;
    }
    return json;
}

Result<Generation> decode_generation(const Json& json) {
    Reader reader(json);
    Generation generation;
    generation.id = reader.id<GenerationId>("id");
    generation.parent = reader.id<GenerationId>("parent");
    generation.began = reader.time("began");
    generation.node = reader.node("node");
    generation.reason = reader.parsed("reason", parse_generation_reason);
    if (json.contains("from_step")) {
        generation.from_step = reader.step("from_step");
    }
    Result<Generation> result = reader.finish(std::move(generation));
    if (result && result->id.is_none()) {
        return fail(ErrorKind::invalid, "'id' is none");
    }
    return result;
}

Json encode(const Lineage& lineage) {
    Json array = Json::array();
    for (const Generation& generation : lineage.entries()) {
        array.push_back(encode(generation));
    }
    return array;
}

Result<Lineage> decode_lineage(const Json& json) {
    if (!json.is_array()) {
        return fail(ErrorKind::invalid, "not an array");
    }
    if (json.size() > Lineage::capacity) {
        return fail(ErrorKind::invalid, "more than {} generations", Lineage::capacity);
    }
    std::vector<Generation> newest_first;
    for (const Json& entry : json) {
        Result<Generation> generation = decode_generation(entry);
        if (!generation) {
            return Failure(
                generation.error().within(fmt::format("generation {}", newest_first.size())));
        }
        newest_first.push_back(std::move(*generation));
    }
    return Lineage(std::move(newest_first));
}

Json encode(const Steps& steps) {
    return {{"taken", steps.taken},
            {"offered", steps.offered},
            {"content", steps.content},
            {"maps_from", steps.maps_from}};
}

Result<Steps> decode_steps(const Json& json) {
    Reader reader(json);
    Steps steps;
    steps.taken = reader.step("taken");
    steps.offered = reader.step("offered");
    steps.content = reader.step("content");
    steps.maps_from = reader.step("maps_from");
    return reader.finish(steps);
}

Json encode(const ReplicaSummary& summary) {
    Json json = {
        {"node", summary.node},
        {"volume_id", to_string(summary.volume)},
        {"size_bytes", summary.size},
        {"role", to_string(summary.role)},
        {"state", to_string(summary.state)},
        {"unclean", summary.unclean},
        {"last_active", summary.last_active},
        {"lineage", encode(summary.lineage)},
        {"session", to_string(summary.session)},
        {"session_begun", to_string(summary.session_begun)},
        {"intent_bytes", summary.intent_bytes},
        {"changed_bytes", summary.changed_bytes},
        {"last_update", encode(summary.last_update)},
        {"break_at", encode(summary.break_at)},
        {"steps", encode(summary.steps)},
    };
    if (summary.doubtful) {
        json["doubtful"] = true;
    }
    if (!summary.yields_to.is_none()) {
        json["yields_to"] = to_string(summary.yields_to);
    }
    if (summary.lacking_bytes != 0) {
        json["lacking_bytes"] = summary.lacking_bytes;
    }
    return json;
}

Result<ReplicaSummary> decode_summary(const Json& json) {
    Reader reader(json);
    ReplicaSummary summary;
    summary.node = reader.node("node");
    summary.volume = reader.id<VolumeId>("volume_id");
    summary.size = reader.number("size_bytes");
    summary.role = reader.parsed("role", parse_role);
    summary.state = reader.parsed("state", parse_replica_state);
    summary.unclean = reader.flag("unclean");
    summary.last_active = reader.flag("last_active");
    summary.lineage = reader.nested("lineage", decode_lineage);
    summary.session = reader.id<SessionId>("session");
    summary.session_begun = reader.id<SessionId>("session_begun");
    summary.intent_bytes = reader.number("intent_bytes");
    summary.changed_bytes = reader.number("changed_bytes");
    summary.last_update = reader.time("last_update");
    summary.break_at = reader.time("break_at");
    summary.steps = reader.nested("steps", decode_steps);
    if (json.contains("doubtful")) {
        summary.doubtful = reader.flag("doubtful");
    }
    // Absent where nobody decided, which is nearly always.
    if (json.contains("yields_to")) {
        summary.yields_to = reader.id<GenerationId>("yields_to");
    }
    if (json.contains("lacking_bytes")) {
        summary.lacking_bytes = reader.number("lacking_bytes");
    }
    return reader.finish(std::move(summary));
}

}  // namespace mirror::control
