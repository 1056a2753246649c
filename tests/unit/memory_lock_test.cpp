// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/memory_lock.hpp"

#include <fstream>
#include <linux/prctl.h>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <thread>

#include <doctest/doctest.h>

using namespace mirror;

namespace {

bool is_flusher() {
    return ::prctl(PR_GET_IO_FLUSHER, 0UL, 0UL, 0UL, 0UL) == 1;
}

/// A figure of /proc/self/status in KiB.
long memory_kib(const std::string& name) {
    std::ifstream status("/proc/self/status");
    std::string word;
    long kib = -1;
    while (status >> word) {
        if (word == name + ":" && status >> kib) {
            return kib;
        }
    }
    return -1;
}

}  // namespace

TEST_CASE("without privileges it says so and goes on; with them threads inherit, programs do not") {
    stand_memory_pressure("a test");
    const bool privileged = is_flusher();
    bool thread_is_flusher = false;
    bool common_is_flusher = true;
    bool flusher_again = false;
    std::thread([&] {
        thread_is_flusher = is_flusher();
        {
            const CommonThread common;
            common_is_flusher = is_flusher();
        }
        flusher_again = is_flusher();
    }).join();
    CHECK(thread_is_flusher == privileged);
    CHECK_FALSE(common_is_flusher);
    CHECK(flusher_again == privileged);
}

TEST_CASE("what is only reserved takes no memory, whether it was there before or comes later") {
    constexpr std::size_t much = std::size_t{256} << 20;
    const long before = memory_kib("VmRSS");
    const auto reserve = [] {
        return ::mmap(nullptr, much, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    };
    void* const there_before = reserve();
    REQUIRE(there_before != MAP_FAILED);
    stand_memory_pressure("a test");
    if (memory_kib("VmLck") <= 0) {
        MESSAGE("not permitted to lock memory, or a sanitizer is at work");
        ::munmap(there_before, much);
        return;
    }
    void* const comes_later = reserve();
    REQUIRE(comes_later != MAP_FAILED);
    CHECK(memory_kib("VmRSS") - before < 64 * 1024);
    ::munmap(there_before, much);
    ::munmap(comes_later, much);
}
