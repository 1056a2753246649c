// SPDX-License-Identifier: BSD-3-Clause
// A secret that is typed or pasted is not shown. What a terminal was like is put back at the end of
// the scope, and when the program is ended by a signal meanwhile. One at a time; main thread.
#pragma once

namespace mirror::tools {

class QuietInput {
  public:
    /// Nothing, where `fd` is no terminal.
    explicit QuietInput(int fd) noexcept;
    ~QuietInput();
    QuietInput(const QuietInput&) = delete;
    QuietInput& operator=(const QuietInput&) = delete;
};

}  // namespace mirror::tools
