// SPDX-License-Identifier: BSD-3-Clause
// A process that dirty pages are written through must not wait for them to be written: when memory
// is short, the kernel makes whoever allocates write pages back first, and those of a filesystem on
// our own volume come to us. So such a process keeps its memory (it never has to be read from a
// swap that may lie on the volume), and says that it is one: its allocations then start no I/O, and
// its writes are throttled by their own disk alone (PR_SET_IO_FLUSHER). Both need privileges;
// without them everything works as long as there is memory.
#pragma once

#include <string>

namespace mirror {

/// For the whole process, once, from its first thread before there are others, which inherit it.
/// Memory that comes later is locked when it is first used, so that the stacks of many threads cost
/// what they use. What is not permitted is logged; `who` begins that line.
void stand_memory_pressure(const std::string& who);

/// For a scope, this thread is a common one: a program that it starts inherits nothing.
class CommonThread {
  public:
    CommonThread() noexcept;
    CommonThread(const CommonThread&) = delete;
    CommonThread& operator=(const CommonThread&) = delete;
    ~CommonThread();

  private:
    bool was_flusher_;
};

}  // namespace mirror
