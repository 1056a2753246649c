// SPDX-License-Identifier: BSD-3-Clause
// As pch.hpp, for the rooms in which about half of the files look into JSON. It costs each file
// half a second, and saves those a whole one.
#ifndef MIRROR_JSON_PCH_HPP
#define MIRROR_JSON_PCH_HPP

#include "core/base/json.hpp"
#include "core/pch/pch.hpp"

#endif
