// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/ready_queue.hpp"

#include <doctest/doctest.h>

using namespace mirror::nbd;

namespace {

struct Ask final : AsyncRequest {};

bool has_rung(const ReadyQueue& queue) {
    eventfd_t count = 0;
    return ::eventfd_read(queue.bell(), &count) == 0;
}

}  // namespace

TEST_CASE("a loop does not go to sleep over a ring or a request that came while it was awake") {
    ReadyQueue queue;
    CHECK(queue.may_sleep());
    queue.wake();
    SUBCASE("a ring") {
        queue.ring();
        CHECK_FALSE(queue.may_sleep());
        CHECK(queue.take_all() == nullptr);
        CHECK(queue.may_sleep());
    }
    SUBCASE("a request") {
        Ask ask;
        queue.post(ask);
        CHECK_FALSE(queue.may_sleep());
        CHECK(queue.take_all() == &ask);
        CHECK(queue.may_sleep());
    }
    CHECK_FALSE(has_rung(queue));
}

TEST_CASE("a loop that sleeps is woken by the bell, once") {
    ReadyQueue queue;
    REQUIRE(queue.may_sleep());
    SUBCASE("by a ring") {
        queue.ring();
    }
    SUBCASE("by a request") {
        Ask ask;
        queue.post(ask);
        CHECK(queue.take_all() == &ask);
    }
    CHECK(has_rung(queue));
    queue.ring();
    CHECK_FALSE(has_rung(queue));
    CHECK_FALSE(queue.may_sleep());
}
