// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/item.hpp"

#include <algorithm>

namespace mirror {

Failure Item::wrong(std::string_view reason, std::string remedy) const {
    const std::string place = source.begin ? fmt::format("{}:{}", file, source.begin.line) : file;
    return Failure(Error{ErrorKind::invalid, fmt::format("{}: {}: {}", place, key, reason),
                         std::move(remedy)});
}

Item Item::child(const toml::key& name, const toml::node& node) const {
    return {file, key.empty() ? std::string(name.str()) : fmt::format("{}.{}", key, name.str()),
            node, name.source()};
}

namespace {

constexpr std::string_view dot_reason = "a name with a dot must be quoted";

bool holds_one_of(const toml::table& table, std::initializer_list<std::string_view> known) {
    return std::any_of(known.begin(), known.end(), [&](std::string_view key) {
        return table.contains(key.substr(0, key.find('.')));
    });
}

/// The first table in the table, and its name after a dot; null where there is none.
const toml::table* next_table(const toml::table& table, std::string& name) {
    for (const auto& [key, value] : table) {
        if (const toml::table* inner = value.as_table()) {
            name += fmt::format(".{}", key.str());
            return inner;
        }
    }
    return nullptr;
}

}  // namespace

Failure unquoted_node(const Item& item) {
    std::string name = item.key.substr(item.key.rfind('.') + 1);
    const toml::table* table = item.value.as_table();
    while (table != nullptr && !table->empty()) {
        const auto first = table->begin();
        name += fmt::format(".{}", first->first.str());
        table = first->second.as_table();
    }
    return item.wrong(dot_reason, fmt::format("write backing.\"{}\" = \"/PATH\"", name));
}

Failure unknown_key(const Item& item, std::initializer_list<std::string_view> known) {
    const std::size_t section = item.key.find('.');
    std::string name = section == std::string::npos ? "" : item.key.substr(section + 1);
    const toml::table* table = name.empty() ? nullptr : item.value.as_table();
    for (; table != nullptr; table = next_table(*table, name)) {
        if (holds_one_of(*table, known)) {
            return item.wrong(dot_reason,
                              fmt::format("write [{}.\"{}\"]", item.key.substr(0, section), name));
        }
    }
    return item.wrong("unknown key", fmt::format("known keys are {}", fmt::join(known, ", ")));
}

Result<const toml::table*> table_of(const Item& item) {
    const toml::table* table = item.value.as_table();
    if (table == nullptr) {
        return item.wrong("must be a table");
    }
    return table;
}

Result<std::string> string_of(const Item& item, std::string_view example) {
    const auto* text = item.value.as_string();
    if (text == nullptr) {
        return item.wrong("must be a string", fmt::format("such as \"{}\"", example));
    }
    return text->get();
}

}  // namespace mirror
