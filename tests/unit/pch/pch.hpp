// SPDX-License-Identifier: BSD-3-Clause
// As core/pch/pch.hpp, for the unit tests: also what nearly each of them includes.
#ifndef MIRROR_TEST_PCH_HPP
#define MIRROR_TEST_PCH_HPP

#include <doctest/doctest.h>

#include "core/pch/pch.hpp"

#endif
