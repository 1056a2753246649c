// SPDX-License-Identifier: BSD-3-Clause
// A machine on which no thread can be started for a scope: their stacks would be larger than the
// address space. A limit for processes (RLIMIT_NPROC) does not hold for root.
#pragma once

#include <cstddef>
#include <pthread.h>
#include <stdexcept>

namespace mirror::test {

class NoThreads {
  public:
    NoThreads() {
        ::pthread_attr_init(&attributes_);
        ::pthread_getattr_default_np(&attributes_);
        ::pthread_attr_getstacksize(&attributes_, &usual_);
        set(std::size_t{1} << 47);
    }
    ~NoThreads() {
        set(usual_);
        ::pthread_attr_destroy(&attributes_);
    }
    NoThreads(const NoThreads&) = delete;
    NoThreads& operator=(const NoThreads&) = delete;

  private:
    void set(std::size_t stack) {
        ::pthread_attr_setstacksize(&attributes_, stack);
        ::pthread_setattr_default_np(&attributes_);
    }

    pthread_attr_t attributes_{};
    std::size_t usual_ = 0;
};

}  // namespace mirror::test
