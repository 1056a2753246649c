// SPDX-License-Identifier: BSD-3-Clause
// Threads of a library: signals are for the threads of the program that loads it, so they start
// with all of them blocked; and a machine without room for a thread is an error like any other.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "core/base/error.hpp"

namespace mirror {

/// `name` is what the system shows; its first 15 bytes. `run` must not throw.
[[nodiscard]] Result<std::thread> start_thread(const std::string& name, std::function<void()> run);

}  // namespace mirror
