// SPDX-License-Identifier: BSD-3-Clause
// Large headers of others that most files need, compiled once (meson's cpp_pch). No file may rely
// on it: the clang build of the tests compiles without. No #pragma once: this is a main file to
// gcc.
#ifndef MIRROR_PCH_HPP
#define MIRROR_PCH_HPP

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <tl/expected.hpp>

#endif
