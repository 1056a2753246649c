// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/item.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "core/base/nearest_word.hpp"
#include "core/config/known_keys.hpp"

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

bool holds_one_of(const toml::table& table, std::span<const std::string_view> known) {
    return std::any_of(known.begin(), known.end(), [&](std::string_view key) {
        return table.contains(key.substr(0, key.find('.')));
    });
}

/// "backing" is the key of backing.NODE.
bool has_key(std::span<const std::string_view> keys, std::string_view name) {
    return std::any_of(keys.begin(), keys.end(),
                       [&](std::string_view key) { return key.substr(0, key.find('.')) == name; });
}

/// With what follows its dot.
std::string nearest_key(std::string_view typed, std::span<const std::string_view> keys) {
    std::vector<std::string_view> stems;
    for (const std::string_view key : keys) {
        stems.push_back(key.substr(0, key.find('.')));
    }
    const std::string nearest = nearest_word(typed, stems);
    const auto at = std::find(stems.begin(), stems.end(), nearest) - stems.begin();
    return nearest.empty() ? nearest : std::string(keys[static_cast<std::size_t>(at)]);
}

struct TableKeys {
    std::span<const std::string_view> keys;
    std::string_view table;
};

std::array<TableKeys, 2> tables_with_keys() {
    return {{{volume_keys, "volume.NAME"}, {node_keys, "node.NAME"}}};
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

void note(Mistakes& mistakes, const Item& item, Failure failure) {
    mistakes.push_back(
        {item.source.begin ? item.source.begin.line : 0, item.key, std::move(failure.value())});
}

bool keep(Mistakes& mistakes, const Item& item, const Result<void>& read) {
    if (!read) {
        note(mistakes, item, Failure(read.error()));
    }
    return read.has_value();
}

bool belongs_above_tables(std::string_view key) {
    return key.find('.') == std::string_view::npos &&
           std::find(top_keys.begin(), top_keys.end(), key) != top_keys.end();
}

Failure stands_below(const Item& item, const Item& table, std::string_view key) {
    return item.wrong(
        fmt::format("{} stands below [{}]{}", key, table.key,
                    table.source.begin ? fmt::format(" at line {}", table.source.begin.line) : ""),
        "move it above all tables");
}

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

Failure unknown_key(const Item& item, const Item& table, std::span<const std::string_view> known) {
    const std::size_t section = item.key.find('.');
    std::string name = section == std::string::npos ? "" : item.key.substr(section + 1);
    const toml::table* inner = name.empty() ? nullptr : item.value.as_table();
    for (; inner != nullptr; inner = next_table(*inner, name)) {
        if (holds_one_of(*inner, known)) {
            return item.wrong(dot_reason,
                              fmt::format("write [{}.\"{}\"]", item.key.substr(0, section), name));
        }
    }
    const std::string own = table.key.empty()
                                ? item.key
                                : item.key.substr(std::min(item.key.size(), table.key.size() + 1));
    if (!table.key.empty() && belongs_above_tables(own)) {
        return stands_below(item, table, own);
    }
    for (const auto& [keys, home] : tables_with_keys()) {
        if (keys.data() != known.data() && has_key(keys, own)) {
            return item.wrong(fmt::format("{} is not a key of this table", own),
                              fmt::format("move it below [{}]", home));
        }
    }
    const std::string list = fmt::format("known keys are {}", fmt::join(known, ", "));
    const std::string meant = nearest_key(own, known);
    return item.wrong("unknown key",
                      meant.empty() ? list : fmt::format("did you mean {}? {}", meant, list));
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
