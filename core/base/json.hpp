// SPDX-License-Identifier: BSD-3-Clause
// nlohmann's JSON for those files that look into a value: most of what its class template makes is
// compiled once, in json.cpp, and not in each of them. Headers that only pass values on include
// <nlohmann/json_fwd.hpp>, which costs a compiler nothing.
#pragma once

#include <nlohmann/json.hpp>

extern template class nlohmann::basic_json<>;
