// SPDX-License-Identifier: BSD-3-Clause
// One key of the configuration file with its value, and how a mistake in it is told: with file,
// line and key. Used by the readers of the file only, on one thread; borrows from the parsed file.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <toml++/toml.h>

#include "core/base/error.hpp"
#include "core/config/mistakes.hpp"

namespace mirror {

struct Item {
    const std::string& file;
    std::string key;  ///< "volume.r0.size"
    const toml::node& value;
    toml::source_region source;

    [[nodiscard]] Failure wrong(std::string_view reason, std::string remedy = {}) const;
    [[nodiscard]] Item child(const toml::key& name, const toml::node& node) const;
};

/// Notes what is wrong with the item, if something is; whether it is right.
bool keep(Mistakes& mistakes, const Item& item, const Result<void>& read);
/// The same of what is known to be wrong.
void note(Mistakes& mistakes, const Item& item, Failure failure);

/// `table`: where the item stands, in which `known` keys are read. In TOML a dot begins a table in
/// the table, unless the name stands in quotes: so where the unknown key holds known ones, the
/// error says how the name is written. One that belongs to another table is sent there.
[[nodiscard]] Failure unknown_key(const Item& item, const Item& table,
                                  std::span<const std::string_view> known);
/// Whether a key of this name stands above all tables, and is no table itself.
[[nodiscard]] bool belongs_above_tables(std::string_view key);
/// Such a key in `table`, where it has no meaning.
[[nodiscard]] Failure stands_below(const Item& item, const Item& table, std::string_view key);
/// A table where backing.NODE should be a path: the node's name had a dot.
[[nodiscard]] Failure unquoted_node(const Item& item);
[[nodiscard]] Result<const toml::table*> table_of(const Item& item);
/// `example` is for who wrote something else.
[[nodiscard]] Result<std::string> string_of(const Item& item, std::string_view example);

/// The value into `target`, or what is wrong with it.
template <typename Value, typename Target>
Result<void> store(Result<Value> value, Target& target) {
    if (!value) {
        return Failure(value.error());
    }
    target = std::move(*value);
    return {};
}

}  // namespace mirror
