// SPDX-License-Identifier: BSD-3-Clause
// What grouping flushes on the standby is worth, is seen beside a mirrord that does not:
// tests/bench builds one. It writes, checks and answers as always; but where one fdatasync would do
// for all requests of a batch, it makes one for each of them, all at the same time, as a server
// does that gives a thread to each request.
#pragma once

#include <cstddef>

namespace mirror::nbd::bench {

/// How many requests the calling thread's next fdatasync stands for.
extern thread_local std::size_t requests_of_flush;

}  // namespace mirror::nbd::bench
