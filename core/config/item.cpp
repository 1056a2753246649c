// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/item.hpp"

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

Failure unknown_key(const Item& item, std::initializer_list<std::string_view> known) {
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
