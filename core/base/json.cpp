// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/json.hpp"

template class nlohmann::basic_json<>;
