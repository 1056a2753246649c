// SPDX-License-Identifier: BSD-3-Clause
// The only way to start a thread here. Signals are for the thread that waits for them, in the
// engine one of the program that loads it, so all of these start with every signal blocked; and a
// machine without room for a thread is an error like any other, not an exception that ends the
// process. `./quickstart test --only static` refuses std::thread anywhere else.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "core/base/error.hpp"

namespace mirror {

/// As std::thread, and made by start_thread() alone. Whoever owns one joins it, or lets it go.
class Thread {
  public:
    Thread() = default;

    [[nodiscard]] bool joinable() const noexcept { return inner_.joinable(); }
    void join() { inner_.join(); }
    /// What it uses must live as long as it does.
    void detach() { inner_.detach(); }

  private:
    friend Result<Thread> start_thread(const std::string& name, std::function<void()> run);
    explicit Thread(std::thread inner) : inner_(std::move(inner)) {}

    std::thread inner_;
};

/// `name` is what the system shows; its first 15 bytes. `run` must not throw.
[[nodiscard]] Result<Thread> start_thread(const std::string& name, std::function<void()> run);

/// The same into `thread`, which must not have one.
[[nodiscard]] Result<void> start_thread(Thread& thread, const std::string& name,
                                        std::function<void()> run);

}  // namespace mirror
