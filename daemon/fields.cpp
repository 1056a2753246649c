// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/fields.hpp"

namespace mirror::daemon {

const nlohmann::json* Fields::find(const char* name) const {
    if (!object_.is_object()) {
        return nullptr;
    }
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

Failure Fields::wrong(const char* name, const char* expected) const {
    return fail(ErrorKind::invalid, "{}: field '{}' must be {}", what_, name, expected);
}

Result<std::string> Fields::text(const char* name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr || !field->is_string()) {
        return wrong(name, "a string");
    }
    return field->get<std::string>();
}

Result<std::optional<std::string>> Fields::optional_text(const char* name) const {
    if (find(name) == nullptr) {
        return std::nullopt;
    }
    return text(name);
}

Result<bool> Fields::flag(const char* name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) {
        return false;
    }
    if (!field->is_boolean()) {
        return wrong(name, "true or false");
    }
    return field->get<bool>();
}

Result<std::uint64_t> Fields::number(const char* name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr || !field->is_number_unsigned()) {
        return wrong(name, "a whole number");
    }
    return field->get<std::uint64_t>();
}

Result<nlohmann::json> Fields::object(const char* name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr || !field->is_object()) {
        return wrong(name, "an object");
    }
    return *field;
}

}  // namespace mirror::daemon
