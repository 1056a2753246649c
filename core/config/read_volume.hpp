// SPDX-License-Identifier: BSD-3-Clause
// The reader of one table [volume.NAME]. Used by the reader of the file only, when the nodes are
// read.
#pragma once

#include <string>

#include "core/config/config.hpp"
#include "core/config/item.hpp"
#include "core/config/mistakes.hpp"

namespace mirror {

inline constexpr std::string_view name_rule =
    "a name is 1 to 63 of a-z A-Z 0-9 . _ -, starting with a letter or digit";

/// Into `config`, where the table is right. `nodes_are_known`: the file has tables of nodes, so
/// that a node without one is a mistake of the volume's.
void read_volume(Config& config, Mistakes& mistakes, const Item& item, const std::string& name,
                 bool nodes_are_known);

}  // namespace mirror
