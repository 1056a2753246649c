// SPDX-License-Identifier: BSD-3-Clause
// Whoever reads stderr may stop: a pager, a shipper of logs that is stuck, Ctrl-S in a terminal, a
// journal that hangs. A write to it then waits without end, and whoever writes waits with it, maybe
// with a lock. While a relay lives, descriptor 2 of the process is the non-blocking end of a pipe,
// for all that is in the process (nbdkit, GnuTLS, the C library): a write there is done at once or
// fails. One thread takes it on to where stderr went before, and is the only one that waits. What
// does not fit into the pipe is lost; lines of core/base/log.hpp are counted, and how many it were
// is written as soon as there is a reader again.
//
// Made once, by the owner of the process, before the process writes its first line and has other
// threads. Until start() the lines wait in the pipe. A program that is started gets the real stderr
// (real_stderr()).
#pragma once

#include <memory>

namespace mirror {

class StderrRelay {
  public:
    /// Where it can't be had stderr stays as it is, and a line says so. A sanitizer's report is the
    /// last that a process writes, and longer than the pipe: under one there is no relay.
    StderrRelay();
    /// Starts the thread, which keeps the privileges that its maker has now, and would be lost in a
    /// fork: call it when those are settled. Without a thread, stderr is as it was before.
    void start();
    /// Takes on what is in the pipe, for a moment, and gives descriptor 2 back; /dev/null where
    /// nobody reads: the rest of the process must not hang either.
    ~StderrRelay();
    StderrRelay(const StderrRelay&) = delete;
    StderrRelay& operator=(const StderrRelay&) = delete;

  private:
    struct Pump;
    void give_stderr_back();

    std::shared_ptr<Pump> pump_;  ///< shared with its thread, which may hang; null: no relay
};

/// Where stderr of the process really goes.
[[nodiscard]] int real_stderr() noexcept;

}  // namespace mirror
